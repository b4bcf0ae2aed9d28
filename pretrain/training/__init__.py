"""The training loop and what hangs on it, for pretraining and fine-tuning alike; it knows nothing of captions.

May import `shards.storage` and `parsers.command`, and types of `pretrain.model`. Start reading at
`pretrain.training.trainer`.
"""
