"""Graphs and regions to shards."""
