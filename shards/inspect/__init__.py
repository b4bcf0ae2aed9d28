"""Shows what is in a set of shards, checks whether it is sound, and compares two sets.

May import the modules of `shards`; no other folder imports it.
Start with `__main__`, which has one command for each of `summary`, `verify`, `diff` and `page`.
"""
