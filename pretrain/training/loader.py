"""The micro-batches of each step, read by worker processes."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from parsers.command import InputError

BatchT = TypeVar("BatchT")
STACKS = signal.SIGUSR1
"""The signal that makes a worker print its stacks."""


class StepLoader(Generic[BatchT]):
    """Iterates over the items of a dataset of steps. Any step can be the first, so the loader's state is the step."""

    def __init__(self, dataset: Dataset[Sequence[BatchT]], steps: range, *, workers: int) -> None:
        self.waited = 0.0
        """seconds that were spent waiting for items"""
        others = set(multiprocessing.active_children())
        self._items: Iterator[Sequence[BatchT] | InputError] = iter(
            DataLoader(
                _Reporting(dataset),
                batch_size=None,
                sampler=steps,
                num_workers=workers,
                worker_init_fn=_begin_worker if workers else None,
            )
        )
        self._workers = set(multiprocessing.active_children()) - others

    def __iter__(self) -> StepLoader[BatchT]:
        return self

    def __next__(self) -> Sequence[BatchT]:
        started = time.perf_counter()
        item = next(self._items)
        self.waited += time.perf_counter() - started
        if isinstance(item, InputError):
            raise item
        return item

    def print_stacks(self) -> None:
        """Makes every worker print its stacks to stderr."""
        for worker in self._workers:
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, STACKS)

    def close(self) -> None:
        """Ends the workers, even if they hang."""
        self._items = iter(())
        for worker in self._workers:
            worker.kill()
            worker.join()


class _Reporting(Dataset[Sequence[BatchT] | InputError]):
    """Returns an `InputError` as an item, because one that a worker raises arrives with a traceback in its text."""

    def __init__(self, dataset: Dataset[Sequence[BatchT]]) -> None:
        self._dataset = dataset

    def __getitem__(self, step: int) -> Sequence[BatchT] | InputError:
        try:
            return self._dataset[step]
        except InputError as error:
            return error


def _begin_worker(_worker: int) -> None:
    """Prepares a worker. It ignores signals to end: they reach all processes, and the trainer ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.register(STACKS, all_threads=True)
