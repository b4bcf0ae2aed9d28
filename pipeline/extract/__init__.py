"""This stage finds the regions of pictures with a detector (`pipeline.extract`).

Modules here may import `parsers.command`, `shards`, `pipeline.execution`, `pipeline.detectors`, `pipeline.duplicates`
and `pipeline.regions`. Start reading at `stage`, then `images` (where pictures lie, and their pixels) and
`given_boxes`.
"""
