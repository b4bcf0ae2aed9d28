"""Batches reach a GPU while the step before them computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pretrain.training.workload import BatchT

ItemT = TypeVar("ItemT")
_ENDING_SECONDS = 10.0
"""The most that `Ahead.close` waits for an item that is still read."""


class Ahead(Generic[ItemT]):
    """An iterator whose next item is read and prepared by a thread while the present one is used.

    One item is ready at most. What the thread raises is raised here, in the place of the item.
    """

    def __init__(self, items: Iterator[ItemT], prepare: Callable[[ItemT], ItemT]) -> None:
        """Starts the thread.

        Args:
            items: to read. Nobody else may read them.
            prepare: is called with each item, in the thread.
        """
        self._items, self._prepare = items, prepare
        self._ready: SimpleQueue[tuple[ItemT] | Exception] = SimpleQueue()  # a signal may break off its `get`
        self._wanted = threading.Semaphore(1)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batches ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Ahead[ItemT]:
        return self

    def __next__(self) -> ItemT:
        found = self._ready.get()
        if isinstance(found, Exception):
            self._ready.put(found)  # for whoever asks again
            raise found
        self._wanted.release()
        return found[0]

    def close(self) -> None:
        """Ends the thread. An item that it waits for should have been made impossible before."""
        self._closed = True
        self._wanted.release()
        self._thread.join(_ENDING_SECONDS)

    def _run(self) -> None:
        while self._wanted.acquire() and not self._closed:
            try:
                self._ready.put((self._prepare(next(self._items)),))
            except Exception as error:  # among them the end of the items
                self._ready.put(error)
                return


def make_copier(device: torch.device) -> Callable[[Sequence[BatchT]], Sequence[BatchT]] | None:
    """Returns a function that copies micro-batches to a GPU beside its work, or None if the device is none.

    Where they do not fit, they stay where they are: the step copies them again, and says what to change.
    """
    if device.type != "cuda":
        return None
    user = torch.cuda.current_stream(device)
    own = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(batches: Sequence[BatchT]) -> Sequence[BatchT]:
        torch.cuda.set_device(device)  # each thread has a device of its own
        try:
            with torch.cuda.stream(own):
                copies = [batch.to(device) for batch in batches]
            own.synchronize()
        except torch.OutOfMemoryError:
            return batches
        for tensor in find_tensors(copies):
            tensor.record_stream(user)  # else their memory would be given away while that stream still reads it
        return copies

    return copy


def find_tensors(value: object) -> Iterator[Tensor]:
    """Yields the tensors in dataclasses and containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from find_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find_tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from find_tensors(getattr(value, field.name))
