"""This stage joins scene graphs and regions by image id and packs them into shards (`pipeline.pack`).

Modules here may import `parsers`, `shards`, `pipeline.execution`, `pipeline.duplicates` and the modules right in
`pipeline`. Start reading at `stage`, then `join` (what becomes of each image), `word_pieces` and `packing` (a part
of the shards).
"""
