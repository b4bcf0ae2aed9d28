"""Finds what differs between two sets of shards, sample by sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from shards.reader import ShardSet
from shards.schema import MEMBERS, Record

ASPECTS = {
    "boxes.npy": "boxes",
    "features.npy": "features",
    "class_ids.npy": "classes",
    "class_probs.npy": "classes",
    "masks.npz": "word pieces",
    "negatives.json": "false captions",
    "negatives.npz": "false captions",
}
"""The aspect of a sample that each member holds, as the command names it."""


@dataclass
class Difference:
    """How set B differs from set A."""

    settings: dict[str, tuple[object, object]] = field(default_factory=dict)
    """the settings of the manifests that differ, each with the value in A and the value in B"""
    removed: list[str] = field(default_factory=list)
    """keys that only A has"""
    added: list[str] = field(default_factory=list)
    """keys that only B has"""
    changed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """keys of the samples that changed, by aspect (image size, captions, graphs and those of `ASPECTS`)"""

    def __bool__(self) -> bool:
        return bool(self.settings or self.removed or self.added or self.changed)


def compare_sets(a: ShardSet, b: ShardSet, advance: Callable[[int], None]) -> Difference:
    """Compares the samples that have the same key byte by byte, wherever in their sets they are.

    Samples in shards with equal SHA-256 are not compared. ``advance`` is called with 1 after each shard of ``a``.

    Raises:
        ShardError: the record of a sample is damaged.
    """
    difference = Difference()
    settings = [shards.manifest.settings for shards in (a, b)]
    difference.settings = {
        name: (value, settings[1][name]) for name, value in settings[0].items() if value != settings[1][name]
    }
    keys_a, keys_b = a.keys, b.keys
    difference.added = keys_b.filter(pc.invert(pc.is_in(keys_b, value_set=keys_a))).to_pylist()
    positions = pc.fill_null(pc.index_in(keys_a, value_set=keys_b), -1).to_numpy()
    start = 0
    for number, info in enumerate(a.manifest.shards):
        for row in range(info.samples):
            if positions[start + row] < 0:
                difference.removed.append(a.shard(number).keys[row])
                continue
            other_number, other_row = b.places(positions[start + row : start + row + 1])[0].tolist()
            if b.manifest.shards[other_number].sha256 == info.sha256:
                continue
            for kind in _changes(a, (number, row), b, (other_number, other_row)):
                difference.changed[kind].append(a.shard(number).keys[row])
        start += info.samples
        advance(1)
    return difference


def _changes(a: ShardSet, place_a: tuple[int, int], b: ShardSet, place_b: tuple[int, int]) -> list[str]:
    differing = [m for m in MEMBERS if not _equal(a.member(*place_a, m), b.member(*place_b, m))]
    changes = list(_record_changes(a.record(*place_a), b.record(*place_b))) if "json" in differing else []
    return changes + sorted({ASPECTS[member] for member in differing if member != "json"})


def _equal(a: memoryview | None, b: memoryview | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8))


def _record_changes(a: Record, b: Record) -> Iterator[str]:
    if (a.width, a.height) != (b.width, b.height):
        yield "image size"
    if [(c.caption_id, c.text) for c in a.captions] != [(c.caption_id, c.text) for c in b.captions]:
        yield "captions"
    if [c.graph for c in a.captions] != [c.graph for c in b.captions]:
        yield "graphs"
