"""SIGINT and SIGTERM end a run at the end of a step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 1.0
"""Terminals and launchers each pass the same request on; what arrives so soon after the first signal is its echo."""


class Interruption:
    """Turns the first signal into a request; a second one quits at once.

    Inside the context, ``received`` is the signal that asks this rank to end, or None.
    """

    def __init__(self, rank: int) -> None:
        self.received: signal.Signals | None = None
        self._rank = rank
        self._since = 0.0

    def __enter__(self) -> Interruption:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
            if self._rank == 0:
                name = self.received.name
                # os.write: print may be what the signal interrupted.
                os.write(2, f"\n{name}: ends after this step, with a checkpoint; again to quit at once\n".encode())
        elif time.monotonic() - self._since > ECHO_SECONDS:
            os._exit(128 + number)
