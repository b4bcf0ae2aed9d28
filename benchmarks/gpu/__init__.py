"""A check of a machine with a GPU, in one run of at most ten minutes: ``python -m benchmarks.gpu``; see docs/gpu.md.

`steps`, `__main__`, `processes` and `report` import nothing but the standard library. The other modules import what
their steps use, so a missing package skips those steps alone. Start reading at `benchmarks.gpu.steps`.
"""
