"""Downstream tasks, and released checkpoints in and out."""
