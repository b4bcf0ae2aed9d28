"""Many questions at a time: together in one worker, within bounds, and answered when the worker dies."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from matcher.serve.match_queue import MOST_OPEN, BusyError, MatchQueue
from matcher.serve.worker import scoring
from matcher.serve.worker.pool import Worker, WorkerLostError
from matcher.serve.worker.scoring import ModelFiles, Photo, Question

FILES = [ModelFiles(Path(name), Path(name)) for name in "ab"]


class FakeWorker:
    """A worker in this process, which notes the size of each batch."""

    def __init__(self):
        self.batches, self.go = [], asyncio.Event()

    async def run(self, function, files, questions):
        assert function is scoring.score
        await self.go.wait()
        self.batches.append((files.matcher.name, len(questions)))
        if any(question.texts == ("bad",) for question in questions):
            raise WorkerLostError("it died")
        return [[float(text) for text in question.texts] for question in questions]

    def close(self):
        pass


@pytest.fixture
def ask(monkeypatch):
    """A queue before a fake worker."""
    queue = MatchQueue()
    queue._worker = FakeWorker()
    return queue


def question(text):
    return Question(Photo(image_id="1"), (str(text),))


def test_questions_for_one_version_are_scored_together_and_answers_are_not_mixed_up(ask):
    async def main():
        asked = [asyncio.create_task(ask.score(FILES[number % 2], question(number))) for number in range(40)]
        await asyncio.sleep(0)
        ask._worker.go.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(main()) == [[float(number)] for number in range(40)]
    assert ask._worker.batches == [("a", 16), ("b", 16), ("a", 4), ("b", 4)]


def test_a_worker_that_dies_fails_its_batch_and_no_other(ask):
    async def main():
        ask._worker.go.set()
        asked = [ask.score(FILES[0], question("bad")), ask.score(FILES[1], question(1))]
        return await asyncio.gather(*asked, return_exceptions=True)

    lost, answer = asyncio.run(main())
    assert isinstance(lost, WorkerLostError)
    assert answer == [1.0]


def test_more_than_fit_are_told_when_to_try_again():
    queue = MatchQueue()
    opened = [queue.admit() for _ in range(MOST_OPEN)]
    for request in opened:
        request.__enter__()
    with pytest.raises(BusyError) as error, queue.admit():
        pass
    assert error.value.seconds == 13
    opened.pop().__exit__(None, None, None)
    with queue.admit():
        pass


def test_a_worker_is_replaced_when_it_dies_or_takes_too_long():
    async def main():
        worker = Worker(seconds=20)
        first = await worker.run(os.getpid)
        with pytest.raises(ValueError, match="invalid literal"):
            await worker.run(int, "x")
        assert await worker.run(os.getpid) == first
        with pytest.raises(WorkerLostError, match="ended by the system"):
            await worker.run(os._exit, 1)
        worker._seconds = 0.2
        with pytest.raises(WorkerLostError, match="more than 0 seconds"):
            await worker.run(time.sleep, 60)
        worker._seconds = 20
        last = await worker.run(os.getpid)
        worker.close()
        return first, last

    first, last = asyncio.run(main())
    assert first != last


def test_a_worker_that_takes_too_much_memory_says_so_and_lives():
    async def main():
        worker = Worker(seconds=20, memory=1 << 30)
        with pytest.raises(MemoryError):
            await worker.run(bytes, 2 << 30)
        assert await worker.run(len, "abc") == 3
        worker.close()

    asyncio.run(main())
