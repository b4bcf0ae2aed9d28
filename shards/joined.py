"""Several sets of shards that are read as one. Nothing is copied."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np

from parsers.command import InputError
from shards.manifest import Classes, DetectorInfo, TokenizerInfo, Totals
from shards.reader import ShardSet
from shards.sample_reader import SampleReader, ShardIndex, each_place
from shards.schema import Array, Masks, NegativeMasks, Record, Regions


class JoinedSet:
    """Several sets, one after the other. It is a `SampleReader`.

    The numbers of the shards go on from one set to the next: of two sets with three shards each, shard 4 is shard 1 of
    the second set.

    Raises:
        InputError: two sets differ in vocabulary, feature size or classes, or they are the same set.
    """

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        for number, other in enumerate(sets):
            for first in sets[:number]:
                _check_pair(first, other)
        self._sets = list(sets)
        self._ends = list(accumulate(len(one.manifest.shards) for one in sets))

    @property
    def sets(self) -> list[ShardSet]:
        """See `SampleReader`."""
        return self._sets

    @property
    def location(self) -> str:
        """See `SampleReader`."""
        return ", ".join(one.location for one in self._sets)

    @property
    def checksum(self) -> str:
        """The SHA-256 of the checksums of all sets, in their order."""
        return hashlib.sha256("".join(one.checksum for one in self._sets).encode()).hexdigest()

    @property
    def totals(self) -> Totals:
        """See `SampleReader`."""
        return sum((one.totals for one in self._sets), Totals())

    @property
    def tokenizer(self) -> TokenizerInfo:
        """See `SampleReader`."""
        return self._sets[0].tokenizer

    @property
    def feature_size(self) -> int:
        """See `SampleReader`."""
        return self._sets[0].feature_size

    @property
    def detector(self) -> DetectorInfo | None:
        """See `SampleReader`."""
        first, *others = (one.detector for one in self._sets)
        return first if all(other == first for other in others) else None

    @property
    def classes(self) -> Classes:
        """See `SampleReader`."""
        return self._sets[0].classes

    @property
    def vocabulary(self) -> list[str]:
        """See `SampleReader`."""
        return self._sets[0].vocabulary

    @property
    def vocabulary_bytes(self) -> bytes:
        """See `SampleReader`."""
        return self._sets[0].vocabulary_bytes

    @cached_property
    def samples(self) -> Array:
        """See `SampleReader`."""
        return np.concatenate([one.samples for one in self._sets])

    def __len__(self) -> int:
        return sum(map(len, self._sets))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return each_place(self.samples)

    def shard(self, shard: int) -> ShardIndex:
        """See `SampleReader`."""
        found, number = self._find(shard)
        return found.shard(number)

    def record(self, shard: int, row: int) -> Record:
        """See `SampleReader`."""
        found, number = self._find(shard)
        return found.record(number, row)

    def regions(self, shard: int, row: int) -> Regions:
        """See `SampleReader`."""
        found, number = self._find(shard)
        return found.regions(number, row)

    def masks(self, shard: int, row: int) -> Masks:
        """See `SampleReader`."""
        found, number = self._find(shard)
        return found.masks(number, row)

    def negative_masks(self, shard: int, row: int) -> NegativeMasks:
        """See `SampleReader`."""
        found, number = self._find(shard)
        return found.negative_masks(number, row)

    def _find(self, shard: int) -> tuple[ShardSet, int]:
        """The set that a shard belongs to, and the number of the shard in that set."""
        number = bisect_right(self._ends, shard)
        return self._sets[number], shard - (self._ends[number - 1] if number else 0)


def open_sets(locations: Sequence[str]) -> SampleReader:
    """Opens one set, or several that are read as one.

    Raises:
        InputError: one of the sets cannot be opened, or they do not fit together.
    """
    sets = [ShardSet(location) for location in locations]
    return sets[0] if len(sets) == 1 else JoinedSet(sets)


def _check_pair(first: ShardSet, other: ShardSet) -> None:
    if differing := first.manifest.differences(other.manifest, but=("parser", "schema_version")):
        raise InputError(
            f"{first.location} and {other.location} cannot be trained on together, they differ in: "
            f"{'; '.join(differing)}; pack one of them again"
        )
    if first.checksum == other.checksum:
        raise InputError(f"{first.location} and {other.location} are the same set; give it once, with more `passes`")
