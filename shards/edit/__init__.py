"""Makes new sets of shards out of others without packing again.

May import the modules of `shards`, but not `shards.inspect`; no other folder imports it.
Start with `__main__` (the commands), then `removal` (what is left of a sample) and `rewrite` (the new set).
"""
