"""Random numbers that follow from counters alone, so that any step can be computed without the steps before it."""

from __future__ import annotations

import numpy as np

EVALUATION_SEED = 1_000_003
"""The seed of all evaluations, whatever the seed of the run."""


def generator(seed: int, epoch: int, *counter: int) -> np.random.Generator:
    """Returns random numbers that depend on the seed, the epoch and up to three counters alone."""
    words = [0, *counter, *([0] * (3 - len(counter)))]
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=words))
