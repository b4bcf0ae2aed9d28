"""Pretraining: the two-stream model, its objectives, and the loop that trains it.

May import `shards` and `parsers.command`. The modules right in this folder are the commands and what they need.
Start reading at `pretrain.run`, then `pretrain.pretraining`.
"""
