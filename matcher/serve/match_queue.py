"""Scores what many clients ask for: together, in one worker, and never more than fits into memory."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from matcher.serve.worker import scoring
from matcher.serve.worker.pool import Worker
from matcher.serve.worker.scoring import ModelFiles, Question, Refusal

P = ParamSpec("P")
T = TypeVar("T")
MOST_OPEN = 64
"""So many requests are open at a time; each may hold a picture in memory."""
MOST_TOGETHER = 16
"""So many questions are scored at once."""
_SECONDS = 120.0
_FIRST_GUESS = 0.2
"""seconds that a question takes, as long as none was measured"""


class BusyError(Exception):
    """There are too many open requests."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests are open; try again in {seconds} s")
        self.seconds = seconds
        """after so many seconds it may be tried again"""


class MatchQueue:
    """Collects questions, and gives those for one version to the worker together."""

    def __init__(self) -> None:
        self._worker = Worker(seconds=_SECONDS)
        self._open = 0
        self._waiting: deque[tuple[ModelFiles, Question, asyncio.Future[list[float] | Refusal]]] = deque()
        self._dispatcher: asyncio.Task[None] | None = None
        self._seconds_each = _FIRST_GUESS

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts a request as open. It comes before the body of the request is read.

        Raises:
            BusyError: too many are open.
        """
        if self._open >= MOST_OPEN:
            raise BusyError(max(1, math.ceil(self._open * self._seconds_each)))
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def score(self, files: ModelFiles, question: Question) -> list[float] | Refusal:
        """Returns the log-odds of a question's texts, or why there are none.

        Raises:
            WorkerLostError: the worker died.
            InputError: the version cannot be used.
        """
        answer: asyncio.Future[list[float] | Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append((files, question, answer))
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch())
        return await answer

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Runs another function of `worker.scoring` where the model is.

        Raises:
            BusyError: too many requests are open.
            WorkerLostError: the worker died.
        """
        with self.admit():
            return await self._worker.run(function, *arguments, **options)

    def close(self) -> None:
        """Ends the worker."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        self._worker.close()

    async def _dispatch(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._waiting:
            files = self._waiting[0][0]
            batch = [item for item in self._waiting if item[0] == files][:MOST_TOGETHER]
            for item in batch:
                self._waiting.remove(item)
            started = clock()
            try:
                answers = await self._worker.run(scoring.score, files, [question for _, question, _ in batch])
            except Exception as error:  # whatever it is, those who wait must hear of it
                for _, _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            self._seconds_each += ((clock() - started) / len(batch) - self._seconds_each) / 8
            for (_, _, answer), found in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
