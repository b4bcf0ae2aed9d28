"""What a browser sees. Pages are made here of templates and work without JavaScript; scripts add what is live.

Modules here may import all of `matcher.serve`. Start reading at `rendering`; ``catalogue/`` holds all texts.
"""
