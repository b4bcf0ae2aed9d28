"""Regions before they are packed: the table that the pipeline writes, and lines of the TSV files that others publish.

May import `shards.storage` and the modules of `shards`; `pipeline` and `finetune` import it.
Start with `table`; `store` reads the regions of single images, and `tsv` reads lines.
"""
