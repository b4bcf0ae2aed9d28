"""What is in a set of shards, and whether it is whole."""
