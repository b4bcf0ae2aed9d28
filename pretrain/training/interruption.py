"""SIGINT and SIGTERM end a run at the end of a step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 1.0
"""Terminals and launchers each pass the same request on. A signal that comes so soon after the first is its echo."""


class Interruption:
    """A context in which the first signal is a request to end, and a second one quits at once."""

    def __init__(self, rank: int) -> None:
        self._received: signal.Signals | None = None
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

    def agree(self, world: DistributedContext) -> signal.Signals | None:
        """Returns the signal that any of the ranks has received, or None. All ranks call it, and all get the same.

        A launcher may signal one rank alone, but a run can only end if all of its ranks end after the same step.
        """
        received = torch.tensor([float(self._received == number) for number in SIGNALS], device=world.device)
        counts = world.all_reduce(received).tolist()
        return next((number for number, count in zip(SIGNALS, counts, strict=True) if count), None)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._since = signal.Signals(number), time.monotonic()
            if self._rank == 0:
                name = self._received.name
                # os.write, because the signal may have interrupted print.
                os.write(2, f"\n{name}: ends after this step, with a checkpoint; again to quit at once\n".encode())
        elif time.monotonic() - self._since > ECHO_SECONDS:
            os._exit(128 + number)
