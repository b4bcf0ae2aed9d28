"""Fine-tuning runs: the recipe, the optimiser, and the workload for the training loop of pretrain/training.

Modules may import everything in finetune/ but the commands, and pretrain/, shards/ and parsers.command.
Start with `fine_tune` in finetuning.py.
"""
