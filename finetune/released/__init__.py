"""The files that came with ERNIE-ViL: Paddle checkpoints, and lines of text with region features.

Modules may import finetune.heads, finetune.tasks (the registry), pretrain/model, shards/ and parsers.command.
Start with checkpoints.py for models and with tsv.py for the files of the tasks.
"""
