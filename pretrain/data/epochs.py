"""Which samples an epoch sees, and which epoch a step belongs to: arithmetic on counts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import numpy as np

from parsers.command import InputError
from shards.sample_reader import SampleReader

_LARGEST_DENOMINATOR = 100
"""of the passes of an epoch. For each set, the number of steps repeats after at most that many epochs."""


class Epochs:
    """The epochs over one or several sets of shards.

    Each set has its own number of passes in an epoch. The passes of a set follow each other over the epochs without a
    gap.

    Example: sets of 10 and 7 samples, passes 1 and 0.5, batches of 4 pairs. Epoch 0 sees all 10 samples of the first
    set and the first 3 of a pass over the second, epoch 1 all 10 again and the other 4. So the epochs have 13 and 14
    pairs and 4 steps each, and this repeats after two epochs. Step 6 is the third one of epoch 1.
    """

    def __init__(self, sizes: Sequence[int], passes: Sequence[Fraction], batch_size: int) -> None:
        """Takes the samples of each set, the passes over each in an epoch, and the pairs of a batch."""
        self._sizes, self._passes, self._batch_size = sizes, passes, batch_size
        # The pairs and steps of the epochs repeat when all sets are at the start of a pass again.
        period = math.lcm(*(of_set.denominator for of_set in passes))
        pairs = [sum(high - low for low, high in self.reach(epoch)) for epoch in range(period)]
        self._pairs_before = list(accumulate(pairs, initial=0))
        self._steps_before = list(accumulate((-(-n // batch_size) for n in pairs), initial=0))

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of the first epoch. Others differ by a few where passes are not whole numbers."""
        return self._steps_before[1]

    @property
    def pairs_per_epoch(self) -> float:
        """Pairs of an epoch; their mean over the epochs, where passes are not whole numbers."""
        return self._pairs_before[-1] / (len(self._pairs_before) - 1)

    def locate(self, step: int) -> tuple[int, int]:
        """Returns the epoch of a step and the step's number in it; all are counted from 0."""
        periods, rest = divmod(step, self._steps_before[-1])
        epoch = int(np.searchsorted(self._steps_before, rest, side="right")) - 1
        return periods * (len(self._steps_before) - 1) + epoch, rest - self._steps_before[epoch]

    def pairs_before(self, step: int) -> int:
        """Returns the pairs of all steps before this one, if all batches but an epoch's last are full."""
        epoch, position = self.locate(step)
        periods, rest = divmod(epoch, len(self._pairs_before) - 1)
        return periods * self._pairs_before[-1] + self._pairs_before[rest] + position * self._batch_size

    def reach(self, epoch: int) -> list[tuple[int, int]]:
        """Returns where an epoch begins and ends for each set, in samples since the set's first pass began."""
        return [
            (math.floor(epoch * of_set * n), math.floor((epoch + 1) * of_set * n))
            for of_set, n in zip(self._passes, self._sizes, strict=True)
        ]


def passes_of(shards: SampleReader, passes: Sequence[float]) -> list[Fraction]:
    """Returns the passes over each set in an epoch as fractions: 1 for each, if ``passes`` is empty.

    Raises:
        InputError: there is not one number for each set.
    """
    passes = passes or [1] * len(shards.sets)
    if len(passes) != len(shards.sets):
        raise InputError(
            f"passes {list(passes)}: one number for each set of shards, of which there are {len(shards.sets)} "
            f"({shards.location})"
        )
    return [Fraction(of_set).limit_denominator(_LARGEST_DENOMINATOR) for of_set in passes]
