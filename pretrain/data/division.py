"""How global batches are divided over ranks and micro-batches, and how much of them is padding then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.data.bucketing import micro_batches
from pretrain.data.padding import padded_length
from pretrain.data.pairs import PairLengths
from shards.schema import Array

DEVICE = "cuda"
"""The type of device that sequences are padded for."""


@dataclass(frozen=True, slots=True)
class Division:
    """Global batches divided over ranks and micro-batches; int64 arrays [steps, ranks, accumulation]."""

    samples: Array
    text: Array
    """text positions that are no padding"""
    image: Array
    """image rows that are no padding"""
    text_length: Array
    """positions that each text of the micro-batch is padded to"""
    image_length: Array

    @property
    def sizes(self) -> tuple[Array, Array, Array]:
        """The pairs of each micro-batch, and the lengths that their texts and images are padded to."""
        return self.samples, self.text_length, self.image_length

    @property
    def tokens(self) -> Array:
        """Text positions and image rows that are no padding, int64 [steps, ranks]."""
        found: Array = (self.text + self.image).sum(2)
        return found

    @property
    def balance(self) -> float:
        """Tokens of the fullest rank over the mean of all ranks, averaged over the steps. 1 means equal work."""
        return float((self.tokens.max(1) / self.tokens.mean(1)).mean())

    @property
    def text_padding(self) -> float:
        """Share of the text positions that are padding."""
        return 1 - float(self.text.sum() / (self.samples * self.text_length).sum())

    @property
    def image_padding(self) -> float:
        """Share of the image rows that are padding."""
        return 1 - float(self.image.sum() / (self.samples * self.image_length).sum())


def divide(batches: Sequence[PairLengths], *, ranks: int, accumulation: int) -> Division:
    """Divides global batches as the trainer does.

    Args:
        batches: the lengths of the pairs of each global batch, in the batch's order.
        ranks: processes that train together.
        accumulation: micro-batches of a rank.
    """
    shape = len(batches), ranks, accumulation
    found = Division(*(np.zeros(shape, np.int64) for _ in range(5)))
    for step, batch in enumerate(batches):
        for rank in range(ranks):
            parts = micro_batches(batch.tokens, rank=rank, ranks=ranks, accumulation=accumulation)
            for part, where in enumerate(parts):
                text, image = batch.text[where], batch.image[where]
                at = step, rank, part
                found.samples[at], found.text[at], found.image[at] = len(text), text.sum(), image.sum()
                found.text_length[at] = padded_length(text.tolist(), DEVICE)
                found.image_length[at] = padded_length(image.tolist(), DEVICE)
    return found
