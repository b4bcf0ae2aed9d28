"""Downstream tasks: fine-tuning, predicting and scoring; and conversion of released checkpoints.

Modules may import pretrain/, shards/ and parsers.command.
Start with run.py, then training/finetuning.py, data.py, tasks/vqa.py, inputs.py and heads.py: the way of a question.
"""
