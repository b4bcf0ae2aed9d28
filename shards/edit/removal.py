"""Takes samples and captions out of a set: what is left of each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shards.schema import Array, Masks, Sample, key_of


@dataclass(frozen=True)
class Removal:
    """What is to go from a set."""

    images: frozenset[str] = frozenset()
    """keys of samples"""
    captions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """caption ids by the key of their sample; a sample that has no caption left goes too"""

    @property
    def keys(self) -> frozenset[str]:
        """The samples that change."""
        return self.images | self.captions.keys()


def without(sample: Sample, removal: Removal) -> Sample | None:
    """What is left of a sample; None where that is nothing."""
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
    return replace(sample, captions=captions, masks=_take_captions(sample.masks, np.array(kept)))


def _take_captions(masks: Masks, kept: Array) -> Masks:
    """The masks of some captions, which with their nodes are numbered anew."""
    pieces = _positions(masks.token_offsets, kept)
    nodes = np.flatnonzero(np.isin(masks.node_caption, kept))
    number = np.full(len(masks.node_kind) + 1, -1, np.int32)  # the last one is found at -1, no argument
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
    """The positions of some of the runs that ``offsets`` cuts an array into."""
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(offsets[i], offsets[i + 1]) for i in kept)])


def _offsets(offsets: Array, kept: Array) -> Array:
    return np.append(0, np.cumsum(np.diff(offsets)[kept])).astype(np.int32)
