"""This stage converts published region features into the table of regions (`pipeline.regions`).

Modules here may import `parsers.command`, `shards` and the rest of `pipeline`.
Start reading at `stage`, then `rows` (the checks that all formats share) and `formats`.
"""
