"""The two-stream model, its heads, what it costs, and how it is written and read.

May import `shards` and `parsers.command`. ``python -m pretrain.model`` prints what a size of the model costs.
Start reading at `pretrain.model.encoder`.
"""
