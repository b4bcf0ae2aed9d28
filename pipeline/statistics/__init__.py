"""This stage counts what the scene graphs of a corpus hold, and finds what repeats in it (`pipeline.statistics`).

Modules here may import `parsers.command`, `shards`, `pipeline.execution`, `pipeline.duplicates`, `pipeline.parse`,
`pipeline.extract` and the modules right in `pipeline`. Start reading at `stage`.
"""
