"""Writes the card of a data set: a README with what a hub shows of it.

May import `parsers.command`, `shards.inspect` and the modules right in `shards`. No package above imports it.
Start reading at `dataset_card` (the text and its head) and `plots` (the picture in it).
"""
