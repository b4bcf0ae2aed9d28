"""From the index of the shards to padded batches: which pairs come when, what is masked, how it is padded.

May import `parsers.command`, `shards`, `pretrain.recipe` and `pretrain.model.config`.
Start reading at `pretrain.data.order`, then `pretrain.data.batches`.
"""
