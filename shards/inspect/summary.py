"""What a set of shards holds: counts from the index, nodes and their words from a spread of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from parsers.graph import Attribute, Object, Relation
from shards.reader import ShardSet
from shards.schema import KINDS, Array

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass
class Histogram:
    """How often each number occurs."""

    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64: ``counts[x]`` is how often x occurs"""

    def add(self, values: Array) -> None:
        """Counts more numbers; they are not negative."""
        more = np.bincount(values, minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more

    @property
    def mean(self) -> float:
        """0 where there is nothing."""
        return float(np.arange(len(self.counts)) @ self.counts) / max(1, int(self.counts.sum()))

    @property
    def median(self) -> int:
        """The number in the middle; 0 where there is nothing."""
        return int(np.searchsorted(np.cumsum(self.counts), self.counts.sum() / 2))

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest number; 0 where there is nothing."""
        seen = np.flatnonzero(self.counts)
        return (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)

    def bars(self, width: int = 24) -> str:
        """The shape from the least to the largest number, as a line of blocks."""
        low, high = self.bounds
        shown = self.counts[low : high + 1]
        if len(shown) == 0:
            return ""
        heights = np.array([part.sum() for part in np.array_split(shown, min(width, len(shown)))])
        return "".join(_BARS[-(-8 * int(height) // int(heights.max()))] for height in heights)


@dataclass
class Summary:
    """The numbers of a set."""

    captions: Histogram = field(default_factory=Histogram)
    """captions of an image"""
    tokens: Histogram = field(default_factory=Histogram)
    """word pieces of a caption"""
    boxes: Histogram = field(default_factory=Histogram)
    """boxes of an image"""
    feature_bytes: int = 0
    feature_bytes_per_caption: int = 0
    """what the features would take if they were stored once a caption"""
    images_read: int = 0
    """images that the numbers below come from"""
    nodes: dict[str, Histogram] = field(default_factory=lambda: {kind: Histogram() for kind in KINDS})
    """nodes of a caption by kind"""
    lemmas: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})


def summarise(shards: ShardSet, images: int, advance: Callable[[int], None]) -> Summary:
    """Counts the whole index, and reads ``images`` images spread evenly over the set."""
    summary = Summary()
    for shard in range(len(shards.manifest.shards)):
        table = shards.index_table(shard, ["tokens", "num_boxes", "features.npy_size"])
        tokens = table["tokens"].combine_chunks()
        captions = np.diff(tokens.offsets.to_numpy())
        sizes = table["features.npy_size"].to_numpy()
        summary.captions.add(captions)
        summary.tokens.add(tokens.values.to_numpy())
        summary.boxes.add(table["num_boxes"].to_numpy())
        summary.feature_bytes += int(sizes.sum())
        summary.feature_bytes_per_caption += int(sizes @ captions)
    for shard, row in spread(shards, images):
        *_, records = shards.record(shard, row)
        for caption in records:
            graph = caption.graph
            parts: tuple[Sequence[Object | Attribute | Relation], ...] = (
                graph.objects,
                graph.attributes,
                graph.relations,
            )
            for kind, nodes in zip(KINDS, parts, strict=True):
                summary.nodes[kind].add(np.array([len(nodes)]))
                summary.lemmas[kind].update(node.lemma for node in nodes)
        summary.images_read += 1
        advance(1)
    return summary


def spread(shards: ShardSet, count: int) -> list[tuple[int, int]]:
    """(shard, row) of at most ``count`` samples, spread evenly over the set."""
    chosen = np.linspace(0, len(shards), min(count, len(shards)), endpoint=False).astype(np.int64)
    return [(shard, row) for shard, row in shards.places(chosen).tolist()]
