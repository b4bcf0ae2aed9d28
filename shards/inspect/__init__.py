"""Shows what is in a set of shards, checks whether it is sound, and compares two sets.

May import `parsers.command`, `parsers.graph` and all of `shards` but `shards.edit`. No package above imports it.
Start reading at `__main__`, which has one command for each of `summary`, `verify`, `diff` and `page`.
"""
