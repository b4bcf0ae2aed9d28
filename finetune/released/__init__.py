"""The files that came with ERNIE-ViL: Paddle checkpoints, and lines of text with region features.

May import `finetune.heads`, the registry of `finetune.tasks`, `pretrain.model`, `shards` and `parsers.command`.
Start reading at `checkpoints` for models, and at `tsv` for the files of the tasks.
"""
