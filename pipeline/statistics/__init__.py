"""This stage counts what the scene graphs of a corpus hold (`pipeline.statistics`).

Modules here may import `shards` and the rest of `pipeline`.
Start reading at `stage`; it is the smallest stage there is.
"""
