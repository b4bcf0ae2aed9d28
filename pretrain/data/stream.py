"""The samples of an epoch in their order: shards in random order, in blocks, shuffled inside each block."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pretrain.data.epochs import Epochs
from shards.random_numbers import generator
from shards.sample_reader import SampleReader
from shards.schema import Array

_BLOCKS, _SHUFFLE, _PASS, _ROWS = 0, 1, 4, 5
"""Purposes of random numbers, so that no two of them share a stream; `pretrain.data.order` has 2 and 3."""


class SampleStream:
    """The stream of samples of every epoch. Any block of it can be computed alone.

    Example: shards A to E of 10 samples each, and blocks of two shards. An epoch has, say, the order D A | E B | C. Its
    blocks begin at the positions 0, 20 and 40 of the stream and hold the shuffled samples of D and A, of E and B, and
    of C.
    """

    def __init__(self, shards: SampleReader, epochs: Epochs, *, seed: int, block_shards: int) -> None:
        self._shards, self._epochs, self._seed, self._block_shards = shards, epochs, seed, block_shards
        self._layout = lru_cache(2)(self._lay_out)
        self._block = lru_cache(3)(self._shuffle_block)

    def bounds(self, epoch: int) -> Array:
        """int64 [blocks + 1]: the position in the stream where each block of an epoch begins, and the end."""
        return self._layout(epoch)[1]

    def read(self, epoch: int, start: int, end: int) -> Array:
        """int64 [end - start, 3]: visit, shard and row of the samples at these positions of an epoch's stream."""
        bounds = self.bounds(epoch)
        pieces = [np.zeros((0, 3), np.int64)]
        first = int(np.searchsorted(bounds, start, side="right")) - 1
        for block in range(first, int(np.searchsorted(bounds, end, side="left"))):
            low, high = max(start, int(bounds[block])), min(end, int(bounds[block + 1]))
            if low < high:
                pieces.append(self._block(epoch, block)[low - bounds[block] : high - bounds[block]])
        return np.concatenate(pieces)

    def _lay_out(self, epoch: int) -> tuple[Array, Array]:
        """Returns the shards of an epoch in its order, and the `bounds`.

        The shards are int64 [n, 4]: visit, shard, and which of its rows (from, to), as `_order_rows` has them.
        """
        parts = [np.zeros((0, 4), np.int64)]
        first_shard = 0
        for number, (low, high) in enumerate(self._epochs.reach(epoch)):
            one = self._shards.sets[number]
            shards = np.arange(first_shard, first_shard + len(one.samples))
            n = max(1, len(one))
            parts += [
                self._select(number, shards, visit, max(low - visit * n, 0), min(high - visit * n, n))
                for visit in range(low // n, -(-high // n))
            ]
            first_shard += len(shards)
        visits = np.concatenate(parts)
        visits = visits[generator(self._seed, epoch, _BLOCKS).permutation(len(visits))]
        ends = np.cumsum(visits[:, 3] - visits[:, 2])
        return visits, np.append(0, np.append(ends[self._block_shards - 1 : -1 : self._block_shards], ends[-1:]))

    def _select(self, number: int, shards: Array, visit: int, low: int, high: int) -> Array:
        """Returns the samples ``low:high`` of a pass over a set, in the form of `_lay_out`."""
        if high - low < len(self._shards.sets[number]):
            shards = generator(self._seed, visit, _PASS, number).permutation(shards)
        counts = self._shards.samples[shards]
        starts = np.cumsum(counts) - counts
        first, last = np.clip(low - starts, 0, counts), np.clip(high - starts, 0, counts)
        found: Array = np.stack([np.full_like(shards, visit), shards, first, last], axis=1)[first < last]
        return found

    def _shuffle_block(self, epoch: int, block: int) -> Array:
        """int64 [samples, 3]: visit, shard and row of the samples of a block, shuffled."""
        visits, _ = self._layout(epoch)
        samples = []
        for visit, shard, first, last in visits[block * self._block_shards : (block + 1) * self._block_shards].tolist():
            rows = self._order_rows(visit, shard, first, last)
            samples.append(np.stack([np.full_like(rows, visit), np.full_like(rows, shard), rows], axis=1))
        return generator(self._seed, epoch, _SHUFFLE, block).permutation(np.concatenate(samples), axis=0)

    def _order_rows(self, visit: int, shard: int, first: int, last: int) -> Array:
        """int64 [last - first]: rows of a shard. Where a visit sees only some of them, they are drawn at random."""
        samples = int(self._shards.samples[shard])
        if last - first == samples:
            return np.arange(samples)
        return generator(self._seed, visit, _ROWS, shard).permutation(samples)[first:last]
