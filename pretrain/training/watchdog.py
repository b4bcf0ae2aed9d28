"""The watchdog: it shows where a run hangs."""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Callable
from types import TracebackType


class Watchdog:
    """Prints the stacks of all threads to stderr, once, when `beat` has not been called for some seconds.

    A rank that waits for another one stands still as well, so all ranks print theirs.
    """

    def __init__(self, seconds: float, rank: int, also: Callable[[], None]) -> None:
        """Takes the seconds to wait, the rank to name, and what else to do when time is up."""
        self._seconds = seconds
        self._rank = rank
        self._also = also
        self._beat = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._beat.set()
        self._thread.join()

    def beat(self) -> None:
        """Tells the watchdog that the run has moved on."""
        self._beat.set()

    def _watch(self) -> None:
        while not self._ended:
            if not self._beat.wait(self._seconds):
                print(
                    f"rank {self._rank}: no step has ended for {self._seconds:g} s (recipe: stall_seconds); "
                    "its stacks, then it waits on:",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(all_threads=True)
                self._also()
                self._beat.wait()
            self._beat.clear()
