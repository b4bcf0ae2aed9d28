"""Several sets of shards that are read as one, without writing a new one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import pyarrow as pa

from parsers.command import InputError
from shards.reader import ShardIndex, ShardSet
from shards.schema import Manifest, Totals


class JoinedManifest(Manifest):
    """What holds for all sets, and the shards of all of them."""

    manifests: list[Manifest]

    @cached_property
    def checksum(self) -> str:
        """sha256 over the checksums of the manifests, in their order."""
        return hashlib.sha256("".join(manifest.checksum for manifest in self.manifests).encode()).hexdigest()


class JoinedSet(ShardSet):
    """Sets one after the other; the numbers of their shards go on from one set to the next.

    Raises:
        InputError: two sets differ in vocabulary, feature size or classes, or are the same.
    """

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        for number, other in enumerate(sets):
            for first in sets[:number]:
                _check_pair(first, other)
        self._sets = list(sets)
        self._ends = list(accumulate(len(one.manifest.shards) for one in sets))
        manifests = [one.manifest for one in sets]
        self.location = ", ".join(one.location for one in sets)
        joined = {
            "manifests": manifests,
            "totals": sum((manifest.totals for manifest in manifests), Totals()),
            "index_sha256": [],  # each set has its own
            "shards": [shard for manifest in manifests for shard in manifest.shards],
        }
        self.manifest = JoinedManifest.model_construct(**(dict(manifests[0]) | joined))

    @property
    def sets(self) -> list[ShardSet]:
        """The sets whose shards follow each other here."""
        return self._sets

    @property
    def vocabulary_bytes(self) -> bytes:
        """The content of ``vocab.txt``, which is that of every set."""
        return self._sets[0].vocabulary_bytes

    def _find(self, shard: int) -> tuple[ShardSet, int]:
        """The set that a shard belongs to, and its number there."""
        number = bisect_right(self._ends, shard)
        return self._sets[number], shard - (self._ends[number - 1] if number else 0)

    def shard(self, shard: int) -> ShardIndex:  # type: ignore[override]
        """The rows of the index that belong to a shard."""
        found, number = self._find(shard)
        return found.shard(number)

    def map(self, shard: int) -> memoryview:  # type: ignore[override]
        """The bytes of a tar."""
        found, number = self._find(shard)
        return found.map(number)

    def index_table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of the index that belong to a shard, as `shards.index.SCHEMA` has them."""
        found, number = self._find(shard)
        return found.index_table(number, columns)

    def path(self, shard: int) -> str:
        """The tar as messages name it."""
        found, number = self._find(shard)
        return found.path(number)

    def key_batches(self) -> Iterator[pa.Array]:
        """The keys of all samples, in stored order, at most a million at a time."""
        for one in self._sets:
            yield from one.key_batches()


def open_sets(locations: Sequence[str]) -> ShardSet:
    """One set, or several as one.

    Raises:
        InputError: one of them cannot be opened, or they do not fit together.
    """
    sets = [ShardSet(location) for location in locations]
    return sets[0] if len(sets) == 1 else JoinedSet(sets)


def _check_pair(first: ShardSet, other: ShardSet) -> None:
    if differing := first.manifest.differences(other.manifest, but=("parser",)):
        raise InputError(
            f"{first.location} and {other.location} cannot be trained on together, they differ in: "
            f"{'; '.join(differing)}; pack one of them again"
        )
    if first.manifest.checksum == other.manifest.checksum:
        raise InputError(f"{first.location} and {other.location} are the same set; give it once, with more `passes`")
