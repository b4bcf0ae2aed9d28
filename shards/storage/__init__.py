"""Files and folders, on a disk or in an object store: atomic writes, a cache of remote files, Parquet, safe pickles.

May import `parsers.command` and the types of `shards.schema`. Nothing here knows what a sample is.
Start reading at `files`; `folders` and `cache` are what `shards.reader` reads through.
"""
