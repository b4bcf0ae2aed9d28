"""Which pairs are seen in which step: a pure function of the shards, the seed and the epoch.

The shards of an epoch, in random order, form blocks. Samples are shuffled inside their block; the shuffled blocks one
after the other are the epoch's stream, which is cut into global batches. The batches that end in a block form a
window; inside it pairs are bucketed by length, so that a batch has little padding, and the batches are shuffled. Where
a window begins follows from counts alone, so any step is found without a scan.

Of several sets of shards, each has its own number of passes over it in an epoch: 2 shows every sample twice, 0.5 one
half in this epoch and the other half in the next. The passes of a set follow each other over the epochs without a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import numpy as np

from parsers.command import InputError
from pretrain.recipe import Recipe
from shards.random_numbers import generator
from shards.reader import ShardSet
from shards.schema import Array

_BLOCKS, _SHUFFLE, _BATCHES, _DRAWS, _PASS, _ROWS = range(6)
"""Purposes of random numbers, so that no two of them share a stream."""
EVALUATION_SEED = 1_000_003
"""What is random in evaluations, whatever the seed of the run."""
_LARGEST_DENOMINATOR = 100
"""of the passes of an epoch: the number of steps repeats after that many epochs at most, for each set"""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some image-caption pairs; int64 arrays of equal length."""

    visit: Array
    """[n]: how often the image's set was passed over before; the epoch, where an epoch is one pass"""
    image: Array
    """[n, 2]: shard and row of the image"""
    text: Array
    """[n, 3]: shard and row of the sample that the caption belongs to, and its number there"""
    matched: Array
    """bool [n]: whether the caption belongs to the image"""
    length: Array
    """[n]: word pieces of the caption"""
    num_boxes: Array
    """[n]: boxes of the image"""

    def __len__(self) -> int:
        return len(self.matched)

    def take(self, which: Array | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(getattr(self, field.name)[which] for field in fields(self)))


class BatchPlan:
    """The order of all epochs over a set of shards. The same for any number of ranks, workers and micro-batches.

    Args:
        shards: one set, or several as one.
        seed: of all that is random.
        batch_size: pairs of a global batch; an epoch's last one may be short.
        block_shards: shards that are shuffled together.
        mismatch: share of pairs whose caption belongs to another image.
        passes: over each of the sets in an epoch, rounded to a fraction of at most 100ths; none: one over each.
        max_text: text positions that are shown of a caption, [CLS] and [SEP] included.
        images: whether images are shown.
        equal_tokens: batches have about equal numbers of tokens (see `tokens`) instead of pairs, of which they then
            have ``batch_size`` on average. There is no short batch.
    """

    def __init__(
        self,
        shards: ShardSet,
        *,
        seed: int,
        batch_size: int,
        block_shards: int,
        mismatch: float,
        passes: Sequence[float] = (),
        max_text: int = 512,
        images: bool = True,
        equal_tokens: bool = False,
    ) -> None:
        self.shards = shards
        self.batch_size = batch_size
        self._seed = seed
        self._block_shards = block_shards
        self._mismatch = mismatch
        self._max_text = max_text
        self._images = images
        self._equal_tokens = equal_tokens
        self._passes = _fractions(shards, passes)
        # The pairs and steps of the epochs repeat when all sets are at the start of a pass again.
        period = math.lcm(*(of_set.denominator for of_set in self._passes))
        pairs = [sum(high - low for low, high in self._reach(epoch)) for epoch in range(period)]
        self._pairs_before = list(accumulate(pairs, initial=0))
        self._steps_before = list(accumulate((-(-n // batch_size) for n in pairs), initial=0))
        self._layout = lru_cache(2)(self._find_layout)
        self._block = lru_cache(3)(self._shuffle_block)
        self._window = lru_cache(2)(self._make_window)

    @classmethod
    def of(cls, recipe: Recipe, shards: ShardSet) -> BatchPlan:
        """The plan that a recipe trains by. Without images every caption is a matching one.

        Raises:
            InputError: ``passes`` has not one number for each set.
        """
        return cls(
            shards,
            seed=recipe.seed,
            batch_size=pairs_per_batch(recipe, shards),
            block_shards=recipe.block_shards,
            mismatch=recipe.active_masking.mismatch,
            passes=recipe.passes,
            max_text=recipe.max_text,
            images=recipe.images != "none",
            equal_tokens=recipe.tokens is not None,
        )

    # ------------------------------------------------------------------------------------------------------- counting

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of the first epoch. Others differ by a few where passes are not whole numbers."""
        return self._steps_before[1]

    @property
    def pairs_per_epoch(self) -> float:
        """Pairs of an epoch; on average, where passes are not whole numbers."""
        return self._pairs_before[-1] / (len(self._pairs_before) - 1)

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step, both counted from 0, and the step's number in it."""
        periods, rest = divmod(step, self._steps_before[-1])
        epoch = int(np.searchsorted(self._steps_before, rest, side="right")) - 1
        return periods * (len(self._steps_before) - 1) + epoch, rest - self._steps_before[epoch]

    def pairs_before(self, step: int) -> int:
        """Pairs of all steps before this one; with equal tokens, this epoch's are those of average batches."""
        epoch, position = self.locate(step)
        periods, rest = divmod(epoch, len(self._pairs_before) - 1)
        return periods * self._pairs_before[-1] + self._pairs_before[rest] + position * self.batch_size

    def _reach(self, epoch: int) -> list[tuple[int, int]]:
        """Where an epoch begins and ends for each set, in samples since the set's first pass began."""
        sizes = [len(one) for one in self.shards.sets]
        return [
            (math.floor(epoch * of_set * n), math.floor((epoch + 1) * of_set * n))
            for of_set, n in zip(self._passes, sizes, strict=True)
        ]

    # -------------------------------------------------------------------------------------------------------- batches

    def batch(self, step: int) -> Pairs:
        """The global batch of a step, counted from 0 over all epochs."""
        epoch, position = self.locate(step)
        starts = self._layout(epoch)[1] // self.batch_size  # first step of each window
        starts[-1] = -(-self._layout(epoch)[1][-1] // self.batch_size)
        window = int(np.searchsorted(starts, position, side="right")) - 1
        pairs, cuts, order = self._window(epoch, window)
        number = int(order[position - starts[window]])
        batch = pairs.take(slice(cuts[number], cuts[number + 1]))
        return batch.take(deal(self.tokens(batch)))

    def tokens(self, pairs: Pairs) -> Array:
        """int64 [n]: how long each pair is, in text positions and image rows that are no padding.

        [CLS], [SEP] and the row of the whole image count; pieces beyond ``max_text`` do not.
        """
        found: Array = np.minimum(pairs.length + 2, self._max_text) + 1 + pairs.num_boxes * self._images
        return found

    def _find_layout(self, epoch: int) -> tuple[Array, Array]:
        """The shards of an epoch in its order, and the positions in its stream where each block starts, and the end.

        The shards are int64 [n, 4]: visit, shard, and which of its rows (from, to), as `_rows` orders them.
        """
        parts = [np.zeros((0, 4), np.int64)]
        first_shard = 0
        for number, (low, high) in enumerate(self._reach(epoch)):
            one = self.shards.sets[number]
            shards = np.arange(first_shard, first_shard + len(one.manifest.shards))
            n = max(1, len(one))
            parts += [
                self._pass(number, shards, visit, max(low - visit * n, 0), min(high - visit * n, n))
                for visit in range(low // n, -(-high // n))
            ]
            first_shard += len(shards)
        visits = np.concatenate(parts)
        visits = visits[generator(self._seed, epoch, _BLOCKS).permutation(len(visits))]
        ends = np.cumsum(visits[:, 3] - visits[:, 2])
        return visits, np.append(0, np.append(ends[self._block_shards - 1 : -1 : self._block_shards], ends[-1:]))

    def _pass(self, number: int, shards: Array, visit: int, low: int, high: int) -> Array:
        """The samples ``low:high`` of a pass over a set, as `_find_layout` has them."""
        if high - low < len(self.shards.sets[number]):
            shards = generator(self._seed, visit, _PASS, number).permutation(shards)
        counts = self.shards.samples[shards]
        starts = np.cumsum(counts) - counts
        first, last = np.clip(low - starts, 0, counts), np.clip(high - starts, 0, counts)
        found: Array = np.stack([np.full_like(shards, visit), shards, first, last], axis=1)[first < last]
        return found

    def _rows(self, visit: int, shard: int, first: int, last: int) -> Array:
        """int64 [last - first]: rows of a shard; those of an epoch that sees only some of them are drawn."""
        samples = int(self.shards.samples[shard])
        if last - first == samples:
            return np.arange(samples)
        return generator(self._seed, visit, _ROWS, shard).permutation(samples)[first:last]

    def _shuffle_block(self, epoch: int, block: int) -> Array:
        """int64 [samples, 3]: visit, shard and row of the samples of a block, shuffled."""
        visits, _ = self._layout(epoch)
        samples = []
        for visit, shard, first, last in visits[block * self._block_shards : (block + 1) * self._block_shards].tolist():
            rows = self._rows(visit, shard, first, last)
            samples.append(np.stack([np.full_like(rows, visit), np.full_like(rows, shard), rows], axis=1))
        return generator(self._seed, epoch, _SHUFFLE, block).permutation(np.concatenate(samples), axis=0)

    def _make_window(self, epoch: int, window: int) -> tuple[Pairs, Array, Array]:
        """The pairs of the batches that end in a block, where each batch begins, and their order in time."""
        _, bounds = self._layout(epoch)
        start = int(bounds[window]) // self.batch_size * self.batch_size
        end = int(bounds[window + 1])
        if window + 2 < len(bounds):
            end = end // self.batch_size * self.batch_size
        pieces = [np.zeros((0, 3), np.int64)]
        for block in range(int(np.searchsorted(bounds, start, side="right")) - 1, window + 1):
            low, high = max(start, int(bounds[block])), min(end, int(bounds[block + 1]))
            if low < high:
                pieces.append(self._block(epoch, block)[low - bounds[block] : high - bounds[block]])
        pairs = self._draw(np.concatenate(pieces))
        pairs = pairs.take(np.argsort(pairs.length, kind="stable"))
        pairs = pairs.take(sort_runs(pairs.num_boxes, self._cut(pairs)))
        cuts = self._cut(pairs)
        short = int(len(pairs) % self.batch_size > 0 and not self._equal_tokens)  # the epoch's, if any, comes last
        whole = len(cuts) - 1 - short
        order = generator(self._seed, epoch, _BATCHES, window).permutation(whole)
        return pairs, cuts, np.append(order, np.arange(whole, whole + short))

    def _cut(self, pairs: Pairs) -> Array:
        """int64 [batches + 1]: where each batch of a window begins, and the end."""
        batches = -(-len(pairs) // self.batch_size)
        if self._equal_tokens:
            return cut_evenly(self.tokens(pairs), batches)
        return np.minimum(np.arange(batches + 1) * self.batch_size, len(pairs))

    def _draw(self, samples: Array) -> Pairs:
        """Draws a caption for each image, and for some of them another image's caption."""
        n, visits, images = len(samples), samples[:, 0], samples[:, 1:]
        uniform, num_boxes = np.zeros((n, 3)), np.zeros(n, np.int64)
        for visit, shard in np.unique(samples[:, :2], axis=0).tolist():
            here = (visits == visit) & (images[:, 0] == shard)
            draws = generator(self._seed, visit, _DRAWS, shard).random((int(self.shards.samples[shard]), 3))
            uniform[here] = draws[images[here, 1]]
            num_boxes[here] = self.shards.shard(shard).num_boxes[images[here, 1]]
        matched = uniform[:, 0] >= self._mismatch
        other = (np.arange(n) + 1 + (uniform[:, 1] * max(n - 1, 1)).astype(np.int64)) % max(n, 1)
        for _ in range(n):  # an image that is there twice is no other image
            same = ~matched & (images[other] == images).all(1)
            if not same.any():
                break
            other[same] = (other[same] + 1) % n
        else:
            matched[:] = True
        source = images[np.where(matched, np.arange(n), other)]
        caption, length = np.zeros(n, np.int64), np.zeros(n, np.int64)
        for shard in np.unique(source[:, 0]).tolist():
            here = source[:, 0] == shard
            index, rows = self.shards.shard(shard), source[here, 1]
            first = index.caption_offsets[rows].astype(np.int64)
            caption[here] = uniform[here, 2] * (index.caption_offsets[rows + 1] - first)
            length[here] = index.tokens[first + caption[here]]
        return Pairs(visits, images, np.column_stack([source, caption]), matched, length, num_boxes)


def _fractions(shards: ShardSet, passes: Sequence[float]) -> list[Fraction]:
    passes = passes or [1] * len(shards.sets)
    if len(passes) != len(shards.sets):
        raise InputError(
            f"passes {list(passes)}: one number for each set of shards, of which there are {len(shards.sets)} "
            f"({shards.location})"
        )
    return [Fraction(of_set).limit_denominator(_LARGEST_DENOMINATOR) for of_set in passes]


def pairs_per_batch(recipe: Recipe, shards: ShardSet) -> int:
    """The ``batch_size`` of a recipe, or the pairs that have its ``tokens`` on average over the sets."""
    if recipe.tokens is None:
        assert recipe.batch_size is not None  # the recipe has one of the two
        return recipe.batch_size
    pairs = tokens = 0.0
    for of_set, one in zip(_fractions(shards, recipe.passes), shards.sets, strict=True):
        totals = one.manifest.totals
        text = min(totals.tokens / max(1, totals.captions) + 2, recipe.max_text)
        boxes = 0 if recipe.images == "none" else totals.boxes
        pairs += float(of_set) * totals.samples
        tokens += float(of_set) * ((text + 1) * totals.samples + boxes)
    return max(1, round(recipe.tokens * pairs / max(1, tokens)))


def sort_runs(num_boxes: Array, cuts: Array) -> Array:
    """An order of pairs that are sorted by the length of the text, in which batches have similar numbers of boxes too.

    Both streams are padded, so neither length may come first alone: the list is divided into as many runs of whole
    batches as each run has batches, and each run is sorted by the number of boxes.
    """
    batches = len(cuts) - 1
    runs = max(1, round(math.sqrt(batches)))
    ends = cuts[np.arange(1, runs) * batches // runs]
    return np.concatenate(
        [run[np.argsort(num_boxes[run], kind="stable")] for run in np.split(np.arange(len(num_boxes)), ends)]
    )


def cut_evenly(tokens: Array, batches: int) -> Array:
    """int64 [batches + 1]: where to cut a list so that each batch has about the same sum; none is empty."""
    number = np.arange(batches + 1)
    sums = np.append(0, np.cumsum(tokens))
    cuts = np.searchsorted(sums, number * sums[-1] / max(1, batches))
    cuts = np.maximum.accumulate(cuts - number) + number
    found: Array = np.minimum(cuts, len(tokens) - batches + number)
    return found


def deal(tokens: Array) -> Array:
    """An order in which every run of pairs has long and short ones in equal shares, wherever it is cut.

    The pair at position i is the one that the sorted list has at i with its bits reversed (van der Corput's sequence).
    """
    bits = max(1, int(len(tokens) - 1).bit_length())
    reversed_bits = np.zeros(1, np.int64)
    for _ in range(bits):
        reversed_bits = np.concatenate([2 * reversed_bits, 2 * reversed_bits + 1])
    return np.argsort(tokens, kind="stable")[reversed_bits[reversed_bits < len(tokens)]]


def micro_batches(tokens: Array, *, rank: int, ranks: int, accumulation: int) -> list[Array]:
    """The positions in a global batch of the pairs of each micro-batch of a rank.

    A rank's slice is sorted by length before it is divided: all ranks have equal work, yet no short pair is padded to
    the length of a long one.
    """
    own = slice_of(len(tokens), rank, ranks)
    order = own.start + np.argsort(tokens[own], kind="stable")
    return [order[slice_of(len(order), part, accumulation)] for part in range(accumulation)]


def slice_of(n: int, rank: int, ranks: int) -> slice:
    """Rank r of n gets [r B / n, (r + 1) B / n) of a batch of B; the slice may be empty."""
    return slice(rank * n // ranks, (rank + 1) * n // ranks)
