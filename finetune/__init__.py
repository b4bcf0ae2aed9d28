"""Downstream tasks: fine-tuning, predicting and scoring; and conversion of released checkpoints.

Modules here may import `pretrain`, `shards` and `parsers.command`; captions are read by `pipeline.parse`.
Start reading at `run`; docs/architecture.md follows a question from there through six files.
"""
