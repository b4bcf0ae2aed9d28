"""Where the parts of a stage are made: in processes of this machine, or as tasks of a Ray cluster.

An engine takes numbered partitions and hands back the statistics of each part as it is completed, in any order.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from parsers.command import InputError
from pipeline.execution.parts import Part
from shards.storage.files import AnyPath

PARTS_IN_FLIGHT = 3
"""Partitions handed out per worker ahead of time: enough to keep it busy, few enough to keep memory flat."""
RETRIES = 3
"""How often Ray makes a part again whose worker was lost."""

Work = Callable[[Any, Part], None]
"""From a partition to its part."""


class Workshop(Protocol):
    """The half of a stage that the workers see."""

    @property
    def name(self) -> str:
        """What the stage is called in messages and reports."""
        ...

    def worker(self) -> Work:
        """Built once in each worker: the function from a partition to its part."""
        ...


@dataclass(frozen=True)
class Engine:
    """Which engine runs a stage, and how large it is."""

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    """Processes; with Ray, tasks at a time."""
    ray_address: str | None = None
    """Of a running cluster; a new Ray on this machine if None."""
    gpus: float = 0
    """GPUs of a task of Ray; several tasks share one if it is a fraction"""

    def run(self, stage: Workshop, out: AnyPath, partitions: Iterable[tuple[int, Any]]) -> Iterator[Counter[str]]:
        """Makes the parts; yields the statistics of each as it is completed.

        Raises:
            InputError: a worker died, or Ray cannot be had.
        """
        if self.kind == "ray":
            return _run_on_ray(stage, out, partitions, self)
        if self.workers == 1:
            return _run_here(stage, out, partitions)
        return _run_in_processes(stage, out, partitions, self.workers)


def _make_part(work: Work, out: AnyPath, number: int, partition: Any) -> Counter[str]:
    part = Part(out, number)
    try:
        with _one_thread():
            work(partition, part)
        part.complete()
    except OSError as error:
        part.discard()
        raise InputError(
            f"{out}: {part.name} could not be made: {error}. Finished parts are kept: put it right and run the same "
            "command again"
        ) from error
    except BaseException:
        part.discard()
        raise
    return part.statistics


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch computes with one thread: another number would add up in another order, and give other bytes."""
    torch = sys.modules.get("torch")  # a stage that computes with it has imported it
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _build(stage: Workshop) -> Work:
    work = stage.worker()
    gc.freeze()  # models and modules stay: the collector need not go through them again and again
    gc.set_threshold(50_000)  # and what a partition is made of is no garbage: it need not look so often
    return work


# ---------------------------------------------------------------------------------------------------- on this machine


def _run_here(stage: Workshop, out: AnyPath, partitions: Iterable[tuple[int, Any]]) -> Iterator[Counter[str]]:
    work = None
    for number, partition in partitions:
        work = work or _build(stage)
        yield _make_part(work, out, number, partition)


def _run_in_processes(
    stage: Workshop, out: AnyPath, partitions: Iterable[tuple[int, Any]], workers: int
) -> Iterator[Counter[str]]:
    # Spawned, not forked: a fork would copy the threads' locks of Arrow and torch in whatever state they are.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(stage, out)
    )
    running: set[Future[Counter[str]]] = set()

    def collect() -> Iterator[Counter[str]]:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            running.remove(future)
            yield future.result()

    # One thread of every library in each worker: more would stand in each other's way.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        for number, partition in partitions:
            running.add(pool.submit(_make_part_in_worker, number, partition))
            if len(running) >= workers * PARTS_IN_FLIGHT:
                yield from collect()
        while running:
            yield from collect()
    except BrokenProcessPool as error:
        raise InputError(
            f"{stage.name}: a worker process died (killed, or out of memory). Finished parts are kept: run the same "
            "command again, with fewer --workers if memory was short"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()) if running else []:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


_worker: tuple[Work, AnyPath] | None = None


def _start_worker(stage: Workshop, out: AnyPath) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = _build(stage), out


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make_part_in_worker(number: int, partition: Any) -> Counter[str]:
    assert _worker is not None
    return _make_part(*_worker, number, partition)


# ------------------------------------------------------------------------------------------------------------- on Ray


def _run_on_ray(
    stage: Workshop, out: AnyPath, partitions: Iterable[tuple[int, Any]], engine: Engine
) -> Iterator[Counter[str]]:
    """Each part is a task of one core and ``engine.gpus``. Ray makes it again elsewhere if its worker or node is lost.

    A part that two tasks happen to make is the same part: it is published whole, and its bytes do not depend on where
    it was made.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray: pip install 'ernie-vil-pytorch[ray]'") from None
    with ExitStack() as stack:
        workers, address = engine.workers, engine.ray_address
        # Processes of this machine find what this one finds; on a cluster the package is installed on every node.
        paths = {} if address else {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if address:
            _check_reachable(address)
        try:
            ray.init(
                address or "local",
                num_cpus=None if address else workers,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **paths}},
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"no Ray cluster at {address!r}: {error}") from error
        stack.callback(ray.shutdown)  # which also ends the tasks that are not collected
        # A worker makes any number of parts: Ray would end one with a GPU after each, and its network with it.
        task = ray.remote(num_cpus=1, num_gpus=engine.gpus, max_retries=RETRIES, max_calls=0)(_make_part_as_task)
        shared = ray.put((stage, out))
        running: dict[Any, int] = {}

        def collect() -> Iterator[Counter[str]]:
            done, _ = ray.wait(list(running))
            for reference in done:
                try:
                    statistics = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise InputError(
                        f"{stage.name}: Ray lost part {running[reference]} {RETRIES + 1} times ({error}). Finished "
                        "parts are kept: run the same command again"
                    ) from error
                del running[reference]
                yield statistics

        for number, partition in partitions:
            running[task.remote([shared], number, partition)] = number
            if len(running) >= workers * PARTS_IN_FLIGHT:
                yield from collect()
        while running:
            yield from collect()


def _check_reachable(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"no Ray cluster at {address!r}: {error}") from error


_workshops: dict[Any, tuple[Work, AnyPath]] = {}


def _make_part_as_task(shared: list[Any], number: int, partition: Any) -> Counter[str]:
    """``shared`` holds a reference to (stage, out), so that a process fetches and builds them once."""
    import ray

    (reference,) = shared
    if reference not in _workshops:
        stage, out = ray.get(reference)
        _workshops.clear()
        _workshops[reference] = _build(stage), out
    return _make_part(*_workshops[reference], number, partition)
