"""Contestants take turns, so that a machine that is busy is busy for all of them.

What counts is seconds of the CPU, which other users of a machine change little. Where waiting is the point (a disk,
several workers, starting up) it is the wall clock, and beside it stands how much of the machine others had.
"""

from __future__ import annotations

import platform
import resource
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import psutil
import typer

Name = TypeVar("Name", bound=Hashable)
Rounds = Annotated[int, typer.Option(min=1, help="How often everything is timed.")]
Out = Annotated[Path | None, typer.Option(help="File for the results, see benchmarks.results.")]
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """The time of one turn of a contestant."""

    cpu: float
    """seconds of the CPU, of this process and all its children"""
    wall: float
    """seconds of the wall clock"""
    others: float
    """cores that other processes, and other machines of the same host, kept busy meanwhile"""
    result: Any
    """the value that the work returned"""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


def spread(values: Iterable[float]) -> Spread:
    """Returns the spread of the values of all rounds."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Returns the spread of their seconds divided by ours, round by round."""
    return spread(their / our for our, their in zip(ours, theirs, strict=True))


def timed(work: Callable[[], object]) -> Turn:
    """Does the work once, and times it."""
    busy, of_children = _busy(), _cpu_of_children()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall  # to look at the children takes time
    cpu += _cpu_of_children() - of_children
    return Turn(cpu, wall, max(0.0, _busy() - busy - cpu) / wall, result)


def take_turns(
    contestants: Mapping[Name, Callable[[], object]], rounds: int, *, warm_up: bool = True
) -> dict[Name, list[Turn]]:
    """Lets each contestant do its work once in every round.

    Args:
        contestants: the work of each, by name.
        rounds: number of rounds that count.
        warm_up: whether one more round comes first to warm the caches; never before a single round.

    Returns:
        The turns of each contestant, [rounds].
    """
    turns: dict[Name, list[Turn]] = {name: [] for name in contestants}
    before = int(warm_up and rounds > 1)
    for number in range(before + rounds):
        for name, work in contestants.items():
            turn = timed(work)
            if number >= before:
                turns[name].append(turn)
    return turns


def cpu(turns: Iterable[Turn]) -> list[float]:
    """Returns the CPU seconds of each turn, in their order."""
    return [turn.cpu for turn in turns]


def wall(turns: Iterable[Turn]) -> list[float]:
    """Returns the seconds by the wall clock of each turn, in their order."""
    return [turn.wall for turn in turns]


def others(turns: Iterable[Turn]) -> str:
    """Returns how many cores others kept busy: the median with the lowest and the highest, as text for a table."""
    return f"{spread(turn.others for turn in turns):.1f}"


def machine() -> str:
    """Describes the machine in one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    name = ", ".join(sorted(models)) or platform.machine()
    return f"{name}, {psutil.cpu_count()} cores; Python {platform.python_version()}, torch {version('torch')}"


def _cpu_of_children() -> float:
    """Returns the seconds of the CPU of all children, ended and running."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            running += sum(child.cpu_times()[:4])  # user and system, its own and those of its ended children
        except psutil.NoSuchProcess:
            continue
    return ended.ru_utime + ended.ru_stime + running


def _busy() -> float:
    """Returns the seconds that the cores were busy since the machine started, summed over all cores.

    It includes the time in which other machines of the same host kept them from this one.
    """
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))
