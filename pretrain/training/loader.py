"""The micro-batches of each step, read by worker processes."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from parsers.command import InputError
from pretrain.training.interruption import SIGNALS
from pretrain.training.workload import BatchT

ItemT = TypeVar("ItemT")
STACKS = signal.SIGUSR2
"""The signal that makes a worker print its stacks."""
_DYING_SECONDS = 5.0
"""The most between a connection that breaks off and the end of the worker at its other end."""
_ENLARGE = "enlarge /dev/shm (docker run --shm-size), lower batch_size (or tokens), or set workers: 0"
_CAUSES = {
    signal.SIGKILL: "most often the host's memory was full; lower workers, or batch_size (or tokens)",
    signal.SIGBUS: f"most often the shared memory was full; {_ENLARGE}",
}
_LIBC = ctypes.CDLL(None)
_ENDING_SECONDS = 10.0
"""The most that `Ahead.close` waits for an item that is still read."""


class StepLoader(Generic[BatchT]):
    """Iterates over the items of a dataset of steps. Any step can be the first, so the loader's state is the step."""

    def __init__(
        self,
        dataset: Dataset[Sequence[BatchT]],
        steps: range,
        *,
        workers: int,
        prepare: Callable[[Sequence[BatchT]], Sequence[BatchT]] | None = None,
    ) -> None:
        """Starts to read.

        Args:
            dataset: item i is for step i.
            steps: to iterate over.
            workers: processes that read.
            prepare: is called with each item, in a thread, while the item before it is used; see
                `make_copier`.
        """
        self.waited = 0.0
        """seconds that were spent waiting for items"""
        others = set(multiprocessing.active_children())
        handler = signal.getsignal(signal.SIGCHLD)
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
        self._main = threading.current_thread() is threading.main_thread()
        if (
            self._main
        ):  # PyTorch's handler raises the end of a worker in the middle of a step, this loader between steps
            signal.signal(signal.SIGCHLD, handler)
        self._ahead: Ahead[Sequence[BatchT] | InputError] | None = None
        if prepare is not None:
            self._items = self._ahead = Ahead(
                self._items, lambda item: item if isinstance(item, InputError) else prepare(item)
            )

    def __iter__(self) -> StepLoader[BatchT]:
        return self

    def __next__(self) -> Sequence[BatchT]:
        """Returns the next item.

        Raises:
            InputError: the item cannot be read, or a worker has ended.
        """
        started = time.perf_counter()
        with self._watch_workers():
            item = next(self._items)
        self.waited += time.perf_counter() - started
        if isinstance(item, InputError):
            raise item
        return item

    @contextmanager
    def _watch_workers(self) -> Iterator[None]:
        """Ends the waiting for an item as soon as a worker ends, with an error that says how."""
        self._check_workers()
        if self._main:
            handler = signal.signal(signal.SIGCHLD, lambda *_: self._check_workers())
        try:
            yield
        except (RuntimeError, OSError, EOFError):  # what PyTorch makes of it, and of a connection that breaks off
            by_sentinel = {worker.sentinel: worker for worker in self._workers}
            for ending in connection.wait(list(by_sentinel), timeout=_DYING_SECONDS):
                by_sentinel[ending].join()  # type: ignore[index]  # they are the sentinels that were given
            self._check_workers()
            raise
        finally:
            if self._main:
                signal.signal(signal.SIGCHLD, handler)

    def _check_workers(self) -> None:
        lost = next((worker for worker in self._workers if worker.exitcode), None)  # at the end of all steps it is 0
        if lost is not None:
            raise InputError(_describe_end(lost))

    def print_stacks(self) -> None:
        """Makes every worker print its stacks to stderr."""
        for worker in self._workers:
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, STACKS)

    def close(self) -> None:
        """Ends the workers, even if they hang."""
        if self._ahead is None:
            self._items = iter(())
        for worker in self._workers:
            worker.kill()
            worker.join()
        self._workers = set()
        if self._ahead is not None:  # which reads nothing more without workers
            self._ahead.close()
            self._ahead, self._items = None, iter(())


def _describe_end(worker: BaseProcess) -> str:
    code = worker.exitcode
    assert code, "it has ended before its work was done"
    if code > 0:
        return f"a worker that reads the data (process {worker.pid}) has ended with exit code {code}; see its messages"
    ended_by = signal.Signals(-code)
    cause = _CAUSES.get(ended_by, "see the messages of whoever has sent it")
    return f"a worker that reads the data (process {worker.pid}) was ended by {ended_by.name}: {cause}"


class _Reporting(Dataset[Sequence[BatchT] | InputError]):
    """Returns an error as an item, because one that a worker raises arrives with a traceback in its text.

    A worker puts the tensors into shared memory here. Where PyTorch does it, later, a failure loses the item, and the
    trainer waits for ever.
    """

    def __init__(self, dataset: Dataset[Sequence[BatchT]]) -> None:
        self._dataset = dataset

    def __getitem__(self, step: int) -> Sequence[BatchT] | InputError:
        try:
            item = self._dataset[step]
        except InputError as error:
            return error
        except MemoryError:
            return InputError(f"the memory of a worker that reads the data was full: {_CAUSES[signal.SIGKILL]}")
        if get_worker_info() is None:
            return item
        try:
            for tensor in find_tensors(item):
                tensor.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            return InputError(f"the shared memory cannot take a batch ({error}); {_ENLARGE}")
        return item


def _begin_worker(_worker: int) -> None:
    """Prepares a worker. It ignores signals to end: they reach all processes, and the trainer ends its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(STACKS, all_threads=True)


# ------------------------------------------------------------------------------------------------- on the way to a GPU


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
        for tensor in find_tensors(batches):
            free_shared(tensor)
        return copies

    return copy


def free_shared(tensor: Tensor) -> None:
    """Frees the memory of a tensor that lies in shared memory. Its values are lost, for other processes as well.

    Python would free it with the last reference to the tensor, but while it holds its lock: 0.15 s for 1 GB, in which
    the thread that computes the step would stand still.
    """
    storage = tensor.untyped_storage()
    if storage.is_shared():
        address, size = ctypes.c_void_p(storage.data_ptr()), ctypes.c_size_t(storage.nbytes())
        _LIBC.madvise(address, size, mmap.MADV_REMOVE)  # ctypes lets go of the lock meanwhile


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
