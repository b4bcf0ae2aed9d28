"""A worker process: it runs functions one after the other, and is replaced when it dies."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import ParamSpec, TypeVar

from shards.storage.workers import follow_parent

P = ParamSpec("P")
T = TypeVar("T")


class WorkerLostError(Exception):
    """The process died or took too long: by the fault of its input, or for want of memory."""


class Worker:
    """A process that starts when it is first asked for something."""

    def __init__(self, *, seconds: float, memory: int | None = None) -> None:
        """Starts nothing yet.

        Args:
            seconds: a function that takes longer is ended, with the process.
            memory: the most bytes of address space that the process may take; None: any.
        """
        self._seconds, self._memory = seconds, memory
        self._pool: ProcessPoolExecutor | None = None
        self._pid: Future[int] | None = None

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Runs a function of a module and returns what it returns. What it raises is raised here.

        Raises:
            WorkerLostError: the process was lost.
        """
        pool = self._start()
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(pool.submit(function, *arguments, **options))
        except (BrokenProcessPool, TimeoutError) as error:
            if self._pool is pool:  # else another call has replaced it
                self.close()
            late = f"it took more than {self._seconds:.0f} seconds" if isinstance(error, TimeoutError) else ""
            raise WorkerLostError(late or "the process that did this was ended by the system") from error

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._memory,))
            self._pid = self._pool.submit(os.getpid)
        return self._pool

    def close(self) -> None:
        """Ends the process; the next function gets a new one. Calls that wait end with `WorkerLostError`."""
        pool, pid, self._pool, self._pid = self._pool, self._pid, None, None
        if pool is None or pid is None:
            return
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(pid.result(), signal.SIGKILL)
        pool.shutdown(wait=False)


def _begin(memory: int | None) -> None:
    follow_parent()
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
