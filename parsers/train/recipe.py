"""The settings that networks are trained with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParserRecipe:
    """How a network learns."""

    epochs: int
    batch: int
    """captions in a batch"""
    rate: float
    """learning rate of everything above the encoder"""
    encoder_rate: float
    """learning rate of the encoder"""
    joined: float
    """joined pairs for each gold caption in an epoch"""
    last: float = 0.0
    """share of the learning rate that is left at the end; the rate falls linearly"""
    averaged: float = 0.998
    """share of the averaged weights that is kept at a step"""
    dropout: float = 0.33
    """probability of dropping an element of the arc vectors, and in a small network of its word vectors and states"""


FROM_SCRATCH = ParserRecipe(epochs=10, batch=48, rate=2e-3, encoder_rate=2e-3, joined=0.3)
FROM_PRETRAINED = ParserRecipe(epochs=3, batch=64, rate=1e-3, encoder_rate=6e-5, joined=0.1, last=0.03, averaged=0.995)
FROM_TEACHERS = ParserRecipe(epochs=6, batch=96, rate=3e-3, encoder_rate=3e-3, joined=0.2, dropout=0.1)
