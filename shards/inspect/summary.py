"""Counts what a set of shards holds.

Images, captions, word pieces and boxes are counted in the index. Nodes and their lemmas are counted in images that are
spread evenly over the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shards.nodes import list_nodes
from shards.reader import ShardSet
from shards.schema import KINDS, NEGATIVE_KINDS, Array

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass
class Histogram:
    """How often each number occurs."""

    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64: ``counts[x]`` is how often x occurs"""

    def add(self, values: Array) -> None:
        """Counts more numbers, none of which is negative."""
        more = np.bincount(values, minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more

    @property
    def mean(self) -> float:
        """The mean of all numbers; 0 if there are none."""
        return float(np.arange(len(self.counts)) @ self.counts) / max(1, int(self.counts.sum()))

    @property
    def median(self) -> int:
        """The lower of the two numbers in the middle; 0 if there are none."""
        return int(np.searchsorted(np.cumsum(self.counts), self.counts.sum() / 2))

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number; 0 and 0 if there are none."""
        seen = np.flatnonzero(self.counts)
        return (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)

    def bars(self, width: int = 24) -> str:
        """A line of blocks that shows how often numbers occur, from the smallest to the largest."""
        low, high = self.bounds
        shown = self.counts[low : high + 1]
        if len(shown) == 0:
            return ""
        heights = np.array([part.sum() for part in np.array_split(shown, min(width, len(shown)))])
        return "".join(_BARS[-(-8 * int(height) // int(heights.max()))] for height in heights)


@dataclass
class Summary:
    """The counts of a set."""

    captions: Histogram = field(default_factory=Histogram)
    """captions per image"""
    tokens: Histogram = field(default_factory=Histogram)
    """word pieces per caption"""
    boxes: Histogram = field(default_factory=Histogram)
    """boxes per image"""
    negatives: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(NEGATIVE_KINDS, 0)))
    """false captions by kind"""
    feature_bytes: int = 0
    feature_bytes_per_caption: int = 0
    """bytes that the features would take if they were stored again for each caption"""
    images_read: int = 0
    """the number of images that ``nodes`` and ``lemmas`` come from"""
    nodes: dict[str, Histogram] = field(default_factory=lambda: {kind: Histogram() for kind in KINDS})
    """nodes per caption, by kind"""
    lemmas: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    """how often each lemma occurs, by kind"""
    mentions: Histogram = field(default_factory=Histogram)
    """mentions per object"""


def summarise_set(shards: ShardSet, images: int, advance: Callable[[int], None]) -> Summary:
    """Counts the whole index, and the nodes of ``images`` images that are spread evenly over the set.

    ``advance`` is called with 1 after each image that was read.
    """
    summary = Summary()
    for shard in range(len(shards.manifest.shards)):
        table = shards.index_table(shard, ["tokens", "num_boxes", "features.npy_size"])
        tokens = table["tokens"].combine_chunks()
        captions = np.diff(tokens.offsets.to_numpy())
        sizes = table["features.npy_size"].to_numpy()
        summary.captions.add(captions)
        summary.tokens.add(tokens.values.to_numpy())
        summary.boxes.add(table["num_boxes"].to_numpy())
        kinds = np.bincount(shards.shard(shard).negative_kinds, minlength=len(NEGATIVE_KINDS)).tolist()
        summary.negatives.update(dict(zip(NEGATIVE_KINDS, kinds, strict=True)))
        summary.feature_bytes += int(sizes.sum())
        summary.feature_bytes_per_caption += int(sizes @ captions)
    for shard, row in spread(shards, images):
        for caption in shards.record(shard, row).captions:
            nodes = list_nodes(caption.graph)
            for number, kind in enumerate(KINDS):
                lemmas = [node.lemma for node in nodes if node.kind == number]
                summary.nodes[kind].add(np.array([len(lemmas)]))
                summary.lemmas[kind].update(lemmas)
            summary.mentions.add(np.array([len(item.spans) for item in caption.graph.objects], np.int64))
        summary.images_read += 1
        advance(1)
    return summary


def spread(shards: ShardSet, count: int) -> list[tuple[int, int]]:
    """(shard, row) of at most ``count`` samples, spread evenly over the set."""
    chosen = np.linspace(0, len(shards), min(count, len(shards)), endpoint=False).astype(np.int64)
    return [(shard, row) for shard, row in shards.places(chosen).tolist()]
