"""Which pairs are seen in which step: a pure function of the shards, the seed and the step.

An epoch is a stream of samples (`pretrain.data.stream`) that is cut into global batches. The batches that end in one
block of the stream form a window. Inside a window, pairs are sorted into batches by length, so that a batch has little
padding, and the batches are shuffled. Where a window begins follows from counts alone, so any step is found without a
scan over the steps before it.

Example: blocks that begin at 0, 20 and 40 of a stream of 50 samples, and batches of 8 pairs. The batches end at 8, 16,
24, 32, 40, 48 and 50. The first window has the batches that end in the first block, so the positions 0 to 15, the
second 16 to 39, and the third 40 to 49, whose last batch is short and stays last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from pretrain.data.bucketing import cut_evenly, interleave_by_length, sort_runs
from pretrain.data.epochs import Epochs, passes_of
from pretrain.data.pairs import PairLengths, Pairs, measure_pairs
from pretrain.data.stream import SampleStream
from pretrain.recipe import FalseCaptions, PretrainRecipe
from shards.random_numbers import generator
from shards.sample_reader import SampleReader
from shards.schema import NEGATIVE_KINDS, Array

_BATCHES, _DRAWS, _NEGATIVES = 2, 3, 6
"""Purposes of random numbers, so that no two of them share a stream; `pretrain.data.stream` has the others."""


class BatchPlan:
    """The global batches of all steps over a set of shards: the same for any number of ranks and workers.

    Attributes:
        epochs: which epoch a step belongs to, and how many pairs and steps there are.
    """

    def __init__(
        self,
        shards: SampleReader,
        *,
        seed: int,
        batch_size: int,
        block_shards: int,
        mismatch: float,
        passes: Sequence[float] = (),
        max_text: int = 512,
        images: bool = True,
        equal_tokens: bool = False,
        negatives: FalseCaptions = FalseCaptions(),
    ) -> None:
        """Makes the plan; reads nothing but the manifest.

        Args:
            shards: one set, or several as one.
            seed: decides on all that is random.
            batch_size: pairs of a global batch; an epoch's last batch may be short.
            block_shards: shards that are shuffled together.
            mismatch: share of pairs whose caption belongs to another image.
            passes: over each of the sets in an epoch, rounded to a fraction of at most 100ths; empty: one over each.
            max_text: text positions that a caption is cut to, [CLS] and [SEP] included.
            images: whether images are shown.
            equal_tokens: give batches about equal numbers of tokens instead of pairs. They then have ``batch_size``
                pairs on average, and no batch is short.
            negatives: which mismatched pairs get a false caption of their own image.

        Raises:
            InputError: ``passes`` has not one number for each set.
        """
        self.epochs = Epochs([len(one) for one in shards.sets], passes_of(shards, passes), batch_size)
        self._shards = shards
        self._stream = SampleStream(shards, self.epochs, seed=seed, block_shards=block_shards)
        self._seed = seed
        self._batch_size = batch_size
        self._mismatch = mismatch
        self._max_text = max_text
        self._images = images
        self._equal_tokens = equal_tokens
        self._negatives = negatives
        self._kinds = np.isin(NEGATIVE_KINDS, negatives.kinds)
        self._window = lru_cache(2)(self._make_window)

    @classmethod
    def of(cls, recipe: PretrainRecipe, shards: SampleReader) -> BatchPlan:
        """Returns the plan that a recipe trains by. Without images every caption is a matching one.

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
            negatives=recipe.negatives,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of the first epoch; see `Epochs.steps_per_epoch`."""
        return self.epochs.steps_per_epoch

    def batch(self, step: int) -> Pairs:
        """Returns the global batch of a step, counted from 0 over all epochs."""
        epoch, position = self.epochs.locate(step)
        bounds = self._stream.bounds(epoch)
        first_steps = bounds // self._batch_size  # of each window
        first_steps[-1] = -(-bounds[-1] // self._batch_size)
        window = int(np.searchsorted(first_steps, position, side="right")) - 1
        pairs, cuts, order = self._window(epoch, window)
        number = int(order[position - first_steps[window]])
        batch = pairs.take(slice(cuts[number], cuts[number + 1]))
        return batch.take(interleave_by_length(self.measure(batch).tokens))

    def measure(self, pairs: Pairs) -> PairLengths:
        """Returns the lengths of pairs as they are shown."""
        return measure_pairs(pairs.length, pairs.num_boxes, max_text=self._max_text, images=self._images)

    def _make_window(self, epoch: int, window: int) -> tuple[Pairs, Array, Array]:
        """Returns the pairs of the batches that end in a block, where each batch begins, and their order in time."""
        bounds = self._stream.bounds(epoch)
        start = int(bounds[window]) // self._batch_size * self._batch_size
        end = int(bounds[window + 1])
        if window + 2 < len(bounds):
            end = end // self._batch_size * self._batch_size
        pairs = self._draw(self._stream.read(epoch, start, end))
        pairs = pairs.take(np.argsort(pairs.length, kind="stable"))
        pairs = pairs.take(sort_runs(pairs.num_boxes, self._cut(pairs)))
        cuts = self._cut(pairs)
        short = int(len(pairs) % self._batch_size > 0 and not self._equal_tokens)  # the epoch's last, if it is short
        whole = len(cuts) - 1 - short
        order = generator(self._seed, epoch, _BATCHES, window).permutation(whole)
        return pairs, cuts, np.append(order, np.arange(whole, whole + short))

    def _cut(self, pairs: Pairs) -> Array:
        """int64 [batches + 1]: where each batch of a window begins, and the end."""
        batches = -(-len(pairs) // self._batch_size)
        if self._equal_tokens:
            return cut_evenly(self.measure(pairs).tokens, batches)
        return np.minimum(np.arange(batches + 1) * self._batch_size, len(pairs))

    # ------------------------------------------------------------------------------------------------- drawing captions

    def _draw(self, samples: Array) -> Pairs:
        """Draws a caption for each image, and for some of them another image's caption.

        Args:
            samples: int64 [n, 3], visit, shard and row of the images of a window.
        """
        visits, images = samples[:, 0], samples[:, 1:]
        uniform, num_boxes = self._draw_uniform(samples, _DRAWS)
        matched, source = self._choose_sources(images, uniform[:, :2])
        caption, length = self._choose_captions(source, uniform[:, 2])
        pairs = Pairs(
            visits, images, np.column_stack([source, caption]), matched, length, num_boxes, np.zeros_like(matched)
        )
        return self._put_in_negatives(pairs, samples) if self._negatives.share else pairs

    def _draw_uniform(self, samples: Array, purpose: int) -> tuple[Array, Array]:
        """Returns three numbers in [0, 1) for each sample, float64 [n, 3], and the number of its boxes, int64 [n].

        The numbers follow from the visit and the place of the sample, not from the window that it is in.
        """
        uniform, num_boxes = np.zeros((len(samples), 3)), np.zeros(len(samples), np.int64)
        for visit, shard in np.unique(samples[:, :2], axis=0).tolist():
            here = (samples[:, 0] == visit) & (samples[:, 1] == shard)
            rows = samples[here, 2]
            draws = generator(self._seed, visit, purpose, shard).random((int(self._shards.samples[shard]), 3))
            uniform[here] = draws[rows]
            num_boxes[here] = self._shards.shard(shard).num_boxes[rows]
        return uniform, num_boxes

    def _put_in_negatives(self, pairs: Pairs, samples: Array) -> Pairs:
        """Returns the pairs, some of the mismatched ones with a false caption of their own image.

        First a kind is drawn among those that the image has, then one of its false captions of this kind.

        Args:
            pairs: the pairs of a window.
            samples: int64 [n, 3], visit, shard and row of their images.
        """
        uniform, _ = self._draw_uniform(samples, _NEGATIVES)
        text, length, negative = pairs.text.copy(), pairs.length.copy(), pairs.negative.copy()
        for number in np.flatnonzero(~pairs.matched & (uniform[:, 0] < self._negatives.share)).tolist():
            shard, row = pairs.image[number].tolist()
            index = self._shards.shard(shard)
            first, last = index.negative_offsets[row : row + 2].tolist()
            kinds = index.negative_kinds[first:last]
            possible = np.unique(kinds[self._kinds[kinds]])
            if len(possible):
                kind = possible[int(uniform[number, 1] * len(possible))]
                of_kind = np.flatnonzero(kinds == kind)
                chosen = int(of_kind[int(uniform[number, 2] * len(of_kind))])
                text[number] = shard, row, chosen
                length[number], negative[number] = index.negative_tokens[first + chosen], True
        return replace(pairs, text=text, length=length, negative=negative)

    def _choose_sources(self, images: Array, uniform: Array) -> tuple[Array, Array]:
        """Returns bool [n], whether each image gets a caption of its own, and int64 [n, 2], whose caption it gets.

        Example: of 5 images, image 3 draws 0.2 and 0.6 where half of the pairs are mismatched. 0.2 is below 0.5, so it
        gets another image's caption, that of image (3 + 1 + ⌊0.6 · 4⌋) mod 5 = 1.
        """
        n = len(images)
        matched = uniform[:, 0] >= self._mismatch
        other = (np.arange(n) + 1 + (uniform[:, 1] * max(n - 1, 1)).astype(np.int64)) % max(n, 1)
        for _ in range(n):  # an image that the window has twice is no other image
            same = ~matched & (images[other] == images).all(1)
            if not same.any():
                break
            other[same] = (other[same] + 1) % n
        else:
            matched[:] = True
        return matched, images[np.where(matched, np.arange(n), other)]

    def _choose_captions(self, source: Array, uniform: Array) -> tuple[Array, Array]:
        """Chooses one of the captions of each image.

        Args:
            source: int64 [n, 2], the shard and the row of each image.
            uniform: float64 [n], a random number in [0, 1) for each image.

        Returns:
            Two arrays, int64 [n]: the number of the chosen caption among those of its image, from 0, and how many word
            pieces it has.
        """
        caption, length = np.zeros(len(source), np.int64), np.zeros(len(source), np.int64)
        for shard in np.unique(source[:, 0]).tolist():
            here = source[:, 0] == shard
            index, rows = self._shards.shard(shard), source[here, 1]
            first = index.caption_offsets[rows].astype(np.int64)
            caption[here] = uniform[here] * (index.caption_offsets[rows + 1] - first)
            length[here] = index.tokens[first + caption[here]]
        return caption, length


def pairs_per_batch(recipe: PretrainRecipe, shards: SampleReader) -> int:
    """Returns the ``batch_size`` of a recipe, or the pairs that have its ``tokens`` on average over the sets.

    Example: ``tokens: 8192`` over captions of 12 pieces and images of 36 boxes on average: 14 positions and 37 rows a
    pair, so 161 pairs.
    """
    if recipe.tokens is None:
        assert recipe.batch_size is not None  # the recipe has one of the two
        return recipe.batch_size
    pairs = tokens = 0.0
    for of_set, one in zip(passes_of(shards, recipe.passes), shards.sets, strict=True):
        totals = one.totals
        pieces, boxes = totals.tokens / max(1, totals.captions), totals.boxes / max(1, totals.samples)
        images = recipe.images != "none"
        mean = measure_pairs(np.array(pieces), np.array(boxes), max_text=recipe.max_text, images=images)
        pairs += float(of_set) * totals.samples
        tokens += float(of_set) * totals.samples * float(mean.tokens)
    return max(1, round(recipe.tokens * pairs / max(1, tokens)))
