"""Random numbers that depend on a few given numbers alone, so that every process and every run draws the same ones."""

from __future__ import annotations

import numpy as np

EVALUATION_SEED = 1_000_003
"""The seed of all evaluations, whatever the seed of the run."""


def generator(seed: int, epoch: int, *counter: int) -> np.random.Generator:
    """Returns random numbers that depend on these numbers alone. ``counter`` has at most three of them."""
    words = [0, *counter, *([0] * (3 - len(counter)))]
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=words))
