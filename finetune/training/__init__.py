"""Fine-tuning runs: the recipe, the optimiser, and the workload for the training loop of `pretrain.training`.

May import `pretrain`, `shards`, `parsers.command`, and of `finetune` the modules that are no commands.
Start reading at `fine_tune` in `finetuning`.
"""
