"""The format of the training data: what a sample is, and how sets of shards are written, read, inspected and edited.

May import `parsers.command` and `parsers.graph`, and nothing else of the project.
Start reading at `schema` (a sample), then `members` (its bytes), `writer`, `index`, `manifest` and `reader`.
"""
