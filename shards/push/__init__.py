"""Copies a data set to an object store, the Hugging Face hub or a folder, and verifies it there.

May import `parsers.command`, `parsers.checksums`, `shards.storage`, `shards.card` and the modules right in `shards`. No
package above imports it. Start reading at `transfer` (what happens in which order), then `stores` and `hub`.
"""
