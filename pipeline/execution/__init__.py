"""How a stage runs: its input is cut into partitions, workers make a part of each, and complete parts are kept.

Modules here may import `parsers.command`, `shards` and `pipeline.files`.
Start reading at `executor` (`Stage` and `run_stage`), then `parts` and `engines`.
"""
