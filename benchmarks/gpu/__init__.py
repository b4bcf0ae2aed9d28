"""What a machine with a GPU shows, in one run of at most ten minutes: ``python -m benchmarks.gpu``; see docs/gpu.md.

`steps` says what there is, `__main__` has it done and writes the report; they import nothing but the standard library.
The other modules import what their steps use, so a package that is missing skips those steps alone.
"""
