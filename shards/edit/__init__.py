"""New sets of shards made of others, without packing again."""
