"""The micro-batches of each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")


def load_steps(dataset: Dataset[Sequence[Batch]], steps: range, *, workers: int) -> Iterator[Sequence[Batch]]:
    """The items of a dataset of steps. Any step can be the first: the loader's state is the step."""
    return iter(DataLoader(dataset, batch_size=None, sampler=steps, num_workers=workers))
