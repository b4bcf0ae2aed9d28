"""The table of false captions before it is packed: the columns that need no graph, and how they are read.

Modules here may import `parsers.command`, `shards.schema`, `shards.stage_folder` and `shards.storage`.
Start reading at `table`.
"""
