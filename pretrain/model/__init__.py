"""The two-stream model, its heads, what it costs, and how it is written and read.

May import `shards` and `parsers.command`. Start reading at `pretrain.model.encoder`. ``python -m pretrain.model``
prints what a size of the model costs.
"""
