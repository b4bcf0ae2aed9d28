"""Fine-tuning runs: the recipe, the optimiser, and the workload for the training loop of `pretrain.training`.

Modules here may import `pretrain`, `shards`, `parsers.command` and the modules right in `finetune` that are no commands.
Start reading at `fine_tune` in `finetuning`.
"""
