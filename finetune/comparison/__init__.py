"""Compares what models are good for: the tasks of a toy world, fine-tuned from each with the same recipes.

Modules here may import `finetune`, but not its other commands, and `pretrain`, `shards` and `parsers.command`.
Start reading at `compare_runs` in `runs`; `chance` says what guessing would score, and `report` makes the tables.
"""
