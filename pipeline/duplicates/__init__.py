"""Finds captions and pictures that nearly repeat each other, in a corpus or between a corpus and a benchmark.

Modules here may import `parsers.command`, `shards` and the modules right in `pipeline`. Start reading at `corpus` (what
is found), then `search` (how pairs are found), `captions` and `pictures` (what makes two of them alike).
"""
