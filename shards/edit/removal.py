"""Says what is left of each sample when samples and captions are taken out of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shards.schema import Array, Masks, NegativeMasks, Sample, key_of


@dataclass(frozen=True)
class Removal:
    """The samples and captions that are to be taken out of a set."""

    images: frozenset[str] = frozenset()
    """the keys of samples"""
    captions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """caption ids, by the key of their sample; a sample without a caption left is taken out, too"""

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the samples that change."""
        return self.images | self.captions.keys()


def take_out(sample: Sample, removal: Removal) -> Sample | None:
    """What is left of a sample; None if nothing is. A sample that does not change is returned itself."""
    key = key_of(sample.image_id)
    if key in removal.images:
        return None
    gone = removal.captions.get(key, frozenset())
    kept = [number for number, caption in enumerate(sample.captions) if caption.caption_id not in gone]
    if len(kept) == len(sample.captions):
        return sample
    if not kept:
        return None
    captions = tuple(sample.captions[number] for number in kept)
    left = replace(sample, captions=captions, masks=_take_captions(sample.masks, np.array(kept)))
    return left if sample.negative_masks is None else _take_negatives(left, sample.negative_masks, np.array(kept))


def _take_negatives(sample: Sample, masks: NegativeMasks, kept: Array) -> Sample:
    """The sample with the false captions of the captions that are left, which have new numbers.

    Args:
        sample: what is left, with all false captions.
        masks: of all false captions.
        kept: int64 [captions left], ascending: the numbers that the captions had.
    """
    stay = np.flatnonzero(np.isin(masks.captions, kept))
    if len(stay) == 0:
        return replace(sample, negatives=(), negative_masks=None)
    numbers = np.searchsorted(kept, masks.captions[stay]).astype(np.int32)
    return replace(
        sample,
        negatives=tuple(
            replace(sample.negatives[place], caption=number)
            for place, number in zip(stay.tolist(), numbers.tolist(), strict=True)
        ),
        negative_masks=NegativeMasks(
            _take_captions(masks.masks, stay),
            numbers,
            masks.kinds[stay],
            masks.changed[_positions(masks.masks.token_offsets, stay)],
        ),
    )


def _take_captions(masks: Masks, kept: Array) -> Masks:
    """The masks of some captions. These captions and their nodes get new numbers.

    Example: of three captions with 3, 2 and 4 pieces, the first is taken out (``kept`` is 1, 2)::

                       before          after
        token_offsets  0 3 5 9         0 2 6
        node_caption   0 0 1 2 2       0 1 1       nodes 2, 3 and 4 become 0, 1 and 2
        node_args[4]   3 -1            1 -1        node 4, an attribute of node 3, becomes node 2, of node 1

    Args:
        masks: the masks of all captions of a sample.
        kept: int64 [captions left], ascending: the numbers of the captions that stay.
    """
    pieces = _positions(masks.token_offsets, kept)
    nodes = np.flatnonzero(np.isin(masks.node_caption, kept))
    number = np.full(len(masks.node_kind) + 1, -1, np.int32)  # the last entry serves -1, no argument
    number[nodes] = np.arange(len(nodes))
    return Masks(
        token_ids=masks.token_ids[pieces],
        segment_ids=masks.segment_ids[pieces],
        token_offsets=_offsets(masks.token_offsets, kept),
        node_kind=masks.node_kind[nodes],
        node_caption=np.searchsorted(kept, masks.node_caption[nodes]).astype(np.int32),
        node_args=number[masks.node_args[nodes]],
        node_tokens=masks.node_tokens[_positions(masks.node_token_offsets, nodes)],
        node_token_offsets=_offsets(masks.node_token_offsets, nodes),
    )


def _positions(offsets: Array, kept: Array) -> Array:
    """The positions of some runs of an array, which ``offsets`` cuts into runs.

    The offsets 0, 3, 5, 9 make the runs 0 1 2, 3 4 and 5 6 7 8. Kept are the runs 0 and 2: 0 1 2 5 6 7 8.
    """
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in kept)])


def _offsets(offsets: Array, kept: Array) -> Array:
    """The offsets of the runs that are kept, one after the other: for the same example 0, 3, 7."""
    return np.append(0, np.cumsum(np.diff(offsets)[kept])).astype(np.int32)
