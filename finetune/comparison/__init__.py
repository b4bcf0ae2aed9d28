"""Compares what models are good for: the tasks of a toy world, fine-tuned from each with the same recipes.

Modules may import everything in finetune/ but the other commands, and pretrain/, shards/ and parsers.command.
Start with `compare` in runs.py; chance.py says what guessing would score, report.py makes the tables.
"""
