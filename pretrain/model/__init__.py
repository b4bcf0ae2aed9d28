"""The two-stream model. ``python -m pretrain.model`` prints what a size of it costs."""
