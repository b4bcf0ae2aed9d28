"""The training loop and what hangs on it, for pretraining and fine-tuning alike; it knows nothing of captions.

May import `shards.storage` and `parsers.command`, and of `pretrain.model` the type of compiled code.
Start reading at `pretrain.training.trainer`.
"""
