"""Pretraining: the two-stream model, its objectives, and the loop that trains it.

May import `shards` and `parsers.command`. Start reading at `pretrain.run`, then `pretrain.pretraining`.
"""
