"""The offline stages that turn captions, pictures and region features into shards.

Modules here may import `parsers` and `shards`, and nothing of `pretrain` and `finetune`.
Start reading at `execution`, which runs every stage, then `parse`, `regions` and `pack`.
"""
