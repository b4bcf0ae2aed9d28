"""This stage parses captions into scene graphs (`pipeline.parse`).

Modules here may import `parsers`, `shards`, `pipeline.execution` and the modules right in `pipeline`.
Start reading at `stage`, then `captions` (the checks that all formats share) and `formats`.
"""
