"""Regions before they are packed: the table that the pipeline writes, and lines of the TSV files that others publish.

May import `parsers.command`, `shards.storage` and the modules right in `shards`. `pipeline` and `finetune` import it.
Start reading at `table`; `store` reads the regions of single images, and `tsv` reads lines.
"""
