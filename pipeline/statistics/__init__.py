"""This stage counts what the scene graphs of a corpus hold (`pipeline.statistics`).

Modules here may import `parsers.command`, `shards`, `pipeline.execution` and the modules right in `pipeline`.
Start reading at `stage`; it is the smallest stage there is.
"""
