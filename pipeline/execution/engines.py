"""The engines that make the parts of a stage: processes of this machine, or tasks of a Ray cluster.

An engine takes numbered partitions and reports each part when it is complete, in any order, and rows as they are done.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Literal, Protocol, TypeVar

from parsers.command import Advance, InputError
from pipeline.execution.parts import Part
from shards.storage.files import AnyPath
from shards.storage.workers import follow_parent

PARTS_IN_FLIGHT = 3
"""How many partitions are handed out for each worker: enough to keep it busy, few enough to keep memory flat."""
_WATCH_SECONDS = 1.0
"""How often it is looked how many rows the workers have done."""
RETRIES = 3
"""How often Ray makes a part again if its worker is lost."""

P = TypeVar("P")
"""a partition of the stage's input; it can be pickled"""
P_contra = TypeVar("P_contra", contravariant=True)
Work = Callable[[P, Part], None]
"""a function that makes the part of a partition"""


class WorkerFactory(Protocol[P_contra]):
    """The half of a stage that the workers see."""

    @property
    def name(self) -> str:
        """The name of the stage in messages and reports."""
        ...

    def worker(self) -> Work[P_contra]:
        """Builds the function that makes parts. Each worker process calls this once."""
        ...


@dataclass(frozen=True)
class Engine:
    """Which engine runs a stage, and how many parts it makes at a time."""

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    """the number of processes; with Ray, of tasks that run at the same time"""
    ray_address: str | None = None
    """the address of a running cluster; None starts a new Ray on this machine"""
    gpus: float = 0
    """GPUs of each Ray task; tasks share a GPU if this is a fraction"""

    def run(self, stage: WorkerFactory[P], out: AnyPath, partitions: Iterable[tuple[int, P]], advance: Advance) -> None:
        """Makes the parts.

        Args:
            stage: makes a part of each partition.
            out: the folder of the stage.
            partitions: with their numbers.
            advance: hears of parts that are complete, and of rows that are done. Ray reports the rows of whole parts.

        Raises:
            InputError: a worker died, or Ray cannot be had.
        """
        if self.kind == "ray":
            _run_on_ray(stage, out, partitions, advance, self)
        elif self.workers == 1:
            _run_here(stage, out, partitions, advance)
        else:
            _run_in_processes(stage, out, partitions, advance, self.workers)


def _make_part(work: Work[P], out: AnyPath, number: int, partition: P, report_rows: Callable[[int], None]) -> None:
    part = Part(out, number, report_rows)
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets PyTorch compute with one thread: sums over more threads have another order, and give other bytes."""
    torch = sys.modules.get("torch")  # a stage that computes with PyTorch has imported it
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _build(stage: WorkerFactory[P]) -> Work[P]:
    work = stage.worker()
    gc.freeze()  # models and modules stay, so the garbage collector need not go through them again and again
    gc.set_threshold(50_000)  # and most of what a partition allocates is needed, so it need not look so often
    return work


# ---------------------------------------------------------------------------------------------------- on this machine


def _run_here(stage: WorkerFactory[P], out: AnyPath, partitions: Iterable[tuple[int, P]], advance: Advance) -> None:
    work = None
    for number, partition in partitions:
        work = work or _build(stage)
        _make_part(work, out, number, partition, partial(advance, 0))
        advance(1)


def _run_in_processes(
    stage: WorkerFactory[P], out: AnyPath, partitions: Iterable[tuple[int, P]], advance: Advance, workers: int
) -> None:
    # Processes are spawned: a fork would copy the locks of the threads of Arrow and PyTorch in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    rows = spawn.Value("q", 0)
    pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=(stage, out, rows))
    running: set[Future[None]] = set()
    reported = 0

    def collect() -> None:
        nonlocal reported
        done = wait(running, _WATCH_SECONDS, return_when=FIRST_COMPLETED).done
        running.difference_update(done)
        for future in done:
            future.result()
        so_far = rows.get_obj().value  # without its lock, which a worker that was killed may hold
        reported, new = so_far, so_far - reported
        advance(len(done), new)

    # Every library has one thread in each worker: more would wait for each other.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        for number, partition in partitions:
            running.add(pool.submit(_make_part_in_worker, number, partition))
            while len(running) >= workers * PARTS_IN_FLIGHT:
                collect()
        while running:
            collect()
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


_worker: tuple[Work[Any], AnyPath, Synchronized[int]] | None = None
"""what this worker process makes parts with, the output folder, and the number of rows that all workers have done"""


def _start_worker(stage: WorkerFactory[Any], out: AnyPath, rows: Synchronized[int]) -> None:
    global _worker
    follow_parent()
    _worker = _build(stage), out, rows


def _make_part_in_worker(number: int, partition: object) -> None:
    assert _worker is not None
    work, out, rows = _worker

    def count(done: int) -> None:
        with rows.get_lock():
            rows.value += done

    _make_part(work, out, number, partition, count)


# ------------------------------------------------------------------------------------------------------------- on Ray


def _run_on_ray(
    stage: WorkerFactory[P], out: AnyPath, partitions: Iterable[tuple[int, P]], advance: Advance, engine: Engine
) -> None:
    """Makes each part as a Ray task, and reports it when its task is done, in any order.

    Each task reserves one CPU core and ``engine.gpus`` GPUs. If the worker or the node of a task is lost, Ray makes the
    part again elsewhere, up to `RETRIES` times. The lost task may still be running then, so two tasks may make the same
    part. This does no harm, because each of them publishes whole files with the same bytes.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or a part was lost too often.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray: pip install 'ernie-vil-pytorch[ray]'") from None
    with ExitStack() as stack:
        workers, address = engine.workers, engine.ray_address
        # Workers on this machine import from where this process does. On a cluster, every node has its own package.
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
        stack.callback(ray.shutdown)  # this also ends the tasks that are not collected
        # A worker makes any number of parts (max_calls=0): Ray would end one with a GPU, and its network, after each.
        task = ray.remote(num_cpus=1, num_gpus=engine.gpus, max_retries=RETRIES, max_calls=0)(_make_part_as_task)
        shared = ray.put((stage, out))
        running: dict[object, int] = {}

        def collect() -> None:
            done, _ = ray.wait(list(running))
            for reference in done:
                try:
                    rows = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise InputError(
                        f"{stage.name}: Ray lost part {running[reference]} {RETRIES + 1} times ({error}). Finished "
                        "parts are kept: run the same command again"
                    ) from error
                del running[reference]
                advance(1, rows)

        for number, partition in partitions:
            running[task.remote([shared], number, partition)] = number
            if len(running) >= workers * PARTS_IN_FLIGHT:
                collect()
        while running:
            collect()


def _check_reachable(address: str) -> None:
    """Raises InputError at once if nothing listens there; Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"no Ray cluster at {address!r}: {error}") from error


_built: dict[object, tuple[Work[Any], AnyPath]] = {}
"""what this Ray worker makes parts with, by the reference of the stage; it holds one entry at most"""


def _make_part_as_task(shared: list[object], number: int, partition: object) -> int:
    """Makes a part and returns its number of rows.

    ``shared`` holds a reference to (stage, out), so that a process fetches and builds them once.
    """
    import ray

    (reference,) = shared
    if reference not in _built:
        stage, out = ray.get(reference)
        _built.clear()
        _built[reference] = _build(stage), out
    rows: list[int] = []
    _make_part(*_built[reference], number, partition, rows.append)
    return sum(rows)
