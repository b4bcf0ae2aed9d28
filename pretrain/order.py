"""Which pairs are seen in which step: a pure function of the shards, the seed and the epoch.

The shards of an epoch, in random order, form blocks. Samples are shuffled inside their block; the shuffled blocks one
after the other are the epoch's stream, which is cut into global batches. The batches that end in a block form a
window; inside it pairs are sorted by length, so that a batch has little padding, and the batches are shuffled. Where
a window begins follows from counts alone, so any step is found without a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pretrain.recipe import Recipe
from shards.reader import ShardSet
from shards.schema import Array

_BLOCKS, _SHUFFLE, _BATCHES, _DRAWS = range(4)
"""Purposes of random numbers, so that no two of them share a stream."""


def generator(seed: int, epoch: int, *counter: int) -> np.random.Generator:
    """Random numbers that depend on these numbers alone. At most three words of ``counter``."""
    words = [0, *counter, *([0] * (3 - len(counter)))]
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=words))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some image-caption pairs; int64 arrays of equal length."""

    epoch: int
    image: Array
    """[n, 2]: shard and row of the image"""
    text: Array
    """[n, 3]: shard and row of the sample that the caption belongs to, and its number there"""
    matched: Array
    """bool [n]: whether the caption belongs to the image"""
    length: Array
    """word pieces of the caption"""

    def __len__(self) -> int:
        return len(self.matched)

    def take(self, which: Array | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.epoch, self.image[which], self.text[which], self.matched[which], self.length[which])


class BatchPlan:
    """The order of all epochs over a set of shards. The same for any number of ranks, workers and micro-batches."""

    def __init__(self, shards: ShardSet, *, seed: int, batch_size: int, block_shards: int, mismatch: float) -> None:
        self.shards = shards
        self.batch_size = batch_size
        self._seed = seed
        self._block_shards = block_shards
        self._mismatch = mismatch
        self._samples = np.array([shard.samples for shard in shards.manifest.shards], np.int64)
        self._layout = lru_cache(2)(self._find_layout)
        self._block = lru_cache(3)(self._shuffle_block)
        self._window = lru_cache(2)(self._make_window)

    @classmethod
    def of(cls, recipe: Recipe, shards: ShardSet) -> BatchPlan:
        """The plan that a recipe trains by. Without images every caption is a matching one."""
        return cls(
            shards,
            seed=recipe.seed,
            batch_size=recipe.batch_size,
            block_shards=recipe.block_shards,
            mismatch=recipe.active_masking.mismatch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch; the last one may be short."""
        return -(-int(self._samples.sum()) // self.batch_size)

    def batch(self, step: int) -> Pairs:
        """The global batch of a step, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        starts = self._layout(epoch)[1] // self.batch_size  # first step of each window
        starts[-1] = self.steps_per_epoch
        window = int(np.searchsorted(starts, position, side="right")) - 1
        pairs, order = self._window(epoch, window)
        first = int(order[position - starts[window]]) * self.batch_size
        return pairs.take(slice(first, first + self.batch_size))

    def _find_layout(self, epoch: int) -> tuple[Array, Array]:
        """The shards in this epoch's order, and the positions in its stream where each block starts, and the end."""
        order = generator(self._seed, epoch, _BLOCKS).permutation(len(self._samples))
        ends = np.cumsum(self._samples[order])
        last = np.append(np.arange(self._block_shards - 1, len(order) - 1, self._block_shards), len(order) - 1)
        return order, np.append(0, ends[last])

    def _shuffle_block(self, epoch: int, block: int) -> Array:
        """int64 [samples, 2]: shard and row of the samples of a block, shuffled."""
        order, _ = self._layout(epoch)
        shards = order[block * self._block_shards : (block + 1) * self._block_shards]
        counts = self._samples[shards]
        samples = np.stack([np.repeat(shards, counts), np.concatenate([np.arange(count) for count in counts])], axis=1)
        return generator(self._seed, epoch, _SHUFFLE, block).permutation(samples, axis=0)

    def _make_window(self, epoch: int, window: int) -> tuple[Pairs, Array]:
        """The pairs of the batches that end in a block, and the order in which these batches are seen."""
        _, bounds = self._layout(epoch)
        start = int(bounds[window]) // self.batch_size * self.batch_size
        end = int(bounds[window + 1])
        if window + 2 < len(bounds):
            end = end // self.batch_size * self.batch_size
        pieces = []
        for block in range(len(bounds) - 1):
            low, high = max(start, int(bounds[block])), min(end, int(bounds[block + 1]))
            if low < high:
                pieces.append(self._block(epoch, block)[low - bounds[block] : high - bounds[block]])
        pairs = self._draw(epoch, np.concatenate(pieces)) if pieces else self._draw(epoch, np.zeros((0, 2), np.int64))
        pairs = pairs.take(np.argsort(pairs.length, kind="stable"))
        whole = len(pairs) // self.batch_size
        order = generator(self._seed, epoch, _BATCHES, window).permutation(whole)
        return pairs, np.append(order, whole)  # the short batch of the epoch's end, if any, comes last

    def _draw(self, epoch: int, images: Array) -> Pairs:
        """Draws a caption for each image, and for some of them another image's caption."""
        draws = {int(shard): self._draws(epoch, int(shard)) for shard in np.unique(images[:, 0])}
        uniform = np.array([draws[shard][row] for shard, row in images.tolist()]).reshape(-1, 3)
        n = len(images)
        matched = (uniform[:, 0] >= self._mismatch) | (n == 1)
        other = (np.arange(n) + 1 + (uniform[:, 1] * max(n - 1, 1)).astype(np.int64)) % max(n, 1)
        source = np.where(matched, np.arange(n), other)
        text = np.zeros((n, 3), np.int64)
        length = np.zeros(n, np.int64)
        for number, (shard, row) in enumerate(images[source].tolist()):
            index = self.shards.shard(shard)
            first, last = index.caption_offsets[row], index.caption_offsets[row + 1]
            caption = int(uniform[number, 2] * (last - first))
            text[number] = shard, row, caption
            length[number] = index.tokens[first + caption]
        return Pairs(epoch, images, text, matched, length)

    def _draws(self, epoch: int, shard: int) -> Array:
        """float64 [samples, 3]: the random numbers of the samples of a shard."""
        return generator(self._seed, epoch, _DRAWS, shard).random((int(self._samples[shard]), 3))


def slice_of(n: int, rank: int, ranks: int) -> slice:
    """Rank r of n gets [r B / n, (r + 1) B / n) of a batch of B; the slice may be empty."""
    return slice(rank * n // ranks, (rank + 1) * n // ranks)
