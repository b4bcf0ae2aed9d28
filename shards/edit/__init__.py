"""Makes new sets of shards out of others without packing again.

May import `parsers.command`, `shards.storage` and the modules right in `shards`. No package above imports it.
Start reading at `__main__` (the commands), then `removal` (what is left of a sample) and `rewrite` (the new set).
"""
