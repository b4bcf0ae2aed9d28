"""Compositional suites: does a model tell a caption from one that differs in an object, an attribute or a relation?

Modules here may import `shards`, `pretrain`, and of `finetune` the inputs, the options, the retriever and retrieval.
Start reading at `suites`, which says what a pair is; `scoring` scores pairs with and without their images, and `report`
counts what is right.
"""
