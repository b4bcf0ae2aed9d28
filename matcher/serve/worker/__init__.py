"""What the server leaves to worker processes: reading uploads, drawing, and scoring.

Whatever a hostile picture does to its decoder, it does it to a process that is replaced. Modules here know nothing of
HTTP. Start reading at `pool`, which runs their functions.
"""
