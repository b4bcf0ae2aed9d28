"""Pairs of an image and a caption, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from shards.schema import Array


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some image-caption pairs, as arrays of equal length; int64 where nothing else is said."""

    visit: Array
    """[n]: the number of the pass over the image's set; the epoch, where an epoch is one pass"""
    image: Array
    """[n, 2]: shard and row of the image"""
    text: Array
    """[n, 3]: shard and row of the sample that the caption belongs to, and the caption's number there, or the number of
    a false caption"""
    matched: Array
    """bool [n]: whether the caption belongs to the image"""
    length: Array
    """[n]: word pieces of the caption"""
    num_boxes: Array
    """[n]: boxes of the image"""
    negative: Array
    """bool [n]: whether it is a false caption of the image; then the pair does not match"""

    def __len__(self) -> int:
        return len(self.matched)

    def take(self, which: Array | slice) -> Pairs:
        """Returns the chosen pairs, in the chosen order."""
        return Pairs(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class PairLengths:
    """Lengths of some pairs without padding: arrays of equal length."""

    text: Array
    """text positions, [CLS] and [SEP] included"""
    image: Array
    """image rows, the row of the whole image included"""

    @property
    def tokens(self) -> Array:
        """Text positions and image rows together."""
        total: Array = self.text + self.image
        return total


def measure_pairs(pieces: Array, num_boxes: Array, *, max_text: int, images: bool) -> PairLengths:
    """Returns the lengths of pairs. Captions are one segment each; of several segments each would have a [SEP].

    Example: a caption of 12 word pieces with an image of 36 boxes has 14 text positions and 37 image rows, so 51
    tokens. With ``max_text=10`` it has 10 positions, and without images 1 row.

    Args:
        pieces: word pieces of the captions, before they are cut.
        num_boxes: boxes of the images.
        max_text: text positions that a caption is cut to.
        images: whether images are shown. Without them there is one row, of zeros.
    """
    return PairLengths(np.minimum(pieces + 2, max_text), 1 + num_boxes * images)
