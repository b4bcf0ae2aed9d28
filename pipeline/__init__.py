"""The offline stages that turn captions, pictures and region features into shards.

Modules here may import `parsers` and `shards`. Those right in this folder are what several stages need.
Start reading at `execution`, which runs every stage, then `parse`, `regions` and `pack`.
"""
