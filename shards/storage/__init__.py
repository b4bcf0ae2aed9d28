"""Files and folders, on a disk or in an object store: atomic writes, a cache of remote files, Parquet, safe pickles.

May import `parsers.command`, `shards.errors` and the types of `shards.schema`; nothing here knows what a sample is.
Start with `files`; `folders` and `cache` are what `shards.reader` reads through.
"""
