"""Signals end a run at the end of a step, or while it waits for data, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, TypeVar

import torch

from parsers.command import InputError

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Slurm can be told to send SIGUSR1 before the time is up. A terminal that is closed sends SIGHUP."""
ECHO_SECONDS = 1.0
"""Terminals and launchers each pass the same request on. A signal that comes so soon after the first is its echo."""


class _StopWaitingError(Exception):
    """Leaves `Interruption.wait_for`."""


class Interruption:
    """A context in which the first signal is a request to end, and a second one quits at once.

    SIGHUP stays ignored where it was ignored before, as under ``nohup``.
    """

    def __init__(self, rank: int) -> None:
        self._received: signal.Signals | None = None
        self._rank = rank
        self._since = 0.0
        self._waits = False

    def __enter__(self) -> Interruption:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            taken = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._receive) for number in taken}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wait_for(self, receive: Callable[[], T]) -> T | None:
        """Returns what ``receive`` returns, or None as soon as there is a signal. It is cut off wherever it is."""
        with suppress(_StopWaitingError):
            try:
                self._waits = True
                if self._received is None:
                    return receive()
            finally:
                self._waits = False
        return None

    def agree(self, world: DistributedContext, problem: str | None) -> SystemExit | InputError | None:
        """Returns the error with which all ranks end now, or None. All ranks call it, and all get the same.

        A launcher may signal one rank alone, but a run can only end if all of its ranks end after the same step.

        Args:
            world: the ranks.
            problem: why this rank cannot go on, for the user; None if it can.
        """
        mine = [float(self._received == number) for number in SIGNALS]
        mine.append(float(problem is not None))
        *signals, problems = world.all_reduce(torch.tensor(mine, device=world.device)).tolist()
        if problems:
            return InputError(next(text for text in world.gather(problem) if text is not None))
        return next((SystemExit(128 + number) for number, count in zip(SIGNALS, signals, strict=True) if count), None)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._since = signal.Signals(number), time.monotonic()
            if self._rank == 0:
                name = self._received.name
                # os.write, because the signal may have interrupted print.
                os.write(2, f"\n{name}: ends after this step, with a checkpoint; again to quit at once\n".encode())
            if self._waits:
                raise _StopWaitingError
        elif time.monotonic() - self._since > ECHO_SECONDS:
            os._exit(128 + number)
