"""Recipes are compared: each is trained several times, and every model is asked for hidden nodes.

Modules here may import `shards` and `pretrain`. Start reading at `Trial` in `trials`; `jobs` runs several side by side,
and `spreads` makes tables and plots of results over several seeds.
"""
