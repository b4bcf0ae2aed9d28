"""This stage converts published region features into the table of regions (`pipeline.regions`).

Modules here may import `parsers.command`, `shards`, `pipeline.execution` and the modules right in `pipeline`.
Start reading at `stage`, then `rows` (the checks that all formats share) and `formats`.
"""
