"""This stage makes false captions of scene graphs, each false at one node or two (`pipeline.negatives`).

Modules here may import `parsers`, `shards`, `pipeline.execution` and the modules right in `pipeline`.
Start reading at `stage`, then `makers` (what is tried) and `picture` (what is left out because it may be true).
"""
