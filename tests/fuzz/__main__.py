"""Damaged inputs for every reader and every command: ``python -m tests.fuzz --cases 10000 --commands 500``."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from unittest import mock

import typer

from parsers.command import say
from tests.fuzz.lines import show, watch_line
from tests.fuzz.run import ROOT, Fuzzer, Outcome
from tests.fuzz.targets import IN_PROCESS, READERS, app_of

IMPORTED = ("torch", "pretrain.training.checkpoints", "finetune.retriever", "finetune.released.checkpoints")
IMPORTED += ("torchvision.ops", "pretrain.model.costs", "pretrain.data.batches", "finetune.tasks.retrieval.cheap_score")
"""What takes seconds to import, so that the processes of cases have it already; and the tasks."""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m tests.fuzz --cases 10000 --commands 500 --keep failures")
def main(
    cases: Annotated[int, typer.Option(min=0, help="Cases in process.")] = 1000,
    commands: Annotated[int, typer.Option(min=0, help="Whole commands.")] = 0,
    lines: Annotated[int, typer.Option(min=0, help="Random command lines, in process.")] = 0,
    seed: Annotated[int, typer.Option(help="Case N of a seed is always the same.")] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="No case starts later.")] = 60,
    first: Annotated[int, typer.Option(min=0, help="The number of the first case; with --cases 1, one alone.")] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the files of failures, of each cause the first.")
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Damage nothing: everything must be read.")] = False,
) -> None:
    """Damage valid inputs, and see that every reader and command refuses or reads them, soon and in little memory."""
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        seeds = make_seeds(Path(work) / "seeds")
        fuzzer = Fuzzer(seeds, seed, None if keep is None else keep.absolute(), clean)
        outcomes: dict[str, list[Outcome]] = {}
        if cases:
            import_all()
            numbers = range(first, first + cases)
            outcomes["in process"] = report("In process", fuzzer.run_in_process(iter(numbers), until), len(numbers))
        if commands:
            numbers = range(first, first + commands)
            outcomes["as a command"] = report("Whole commands", fuzzer.run_commands(iter(numbers), until), len(numbers))
    failures = [outcome for found in outcomes.values() for outcome in found if outcome.ended == "failed"]
    print_failures(failures)
    if failures or run_lines(seed, range(first, first + lines)):
        raise typer.Exit(1)


def run_lines(seed: int, numbers: range) -> int:
    """Runs random command lines, each in a process of its own; returns how many failed, and says which."""
    failed = 0
    if numbers:
        import_all()
        environment = {"HF_HUB_OFFLINE": "1"}
        for number in numbers:
            with tempfile.TemporaryDirectory(prefix="fuzz-") as work, mock.patch.dict(os.environ, environment):
                words, found = watch_line(f"{seed}/{number}", Path(work))
            if found is not None:
                failed += 1
                say(f"line {number}: {show(words)}\n{found}")
        say(f"Random command lines: {len(numbers):,}, {failed:,} failed")
    return failed


def make_seeds(folder: Path) -> Path:
    """Writes the seeds in a process of its own, which leaves no thread here that a fork would lose."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "tests.fuzz.seeds", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the seeds could not be made:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return folder


def import_all() -> None:
    """Imports everything that cases in process need, and sees to it that PyTorch makes no threads."""
    import torch

    from finetune.tasks import TASKS, import_task

    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
    for name in TASKS:
        import_task(name)
    for target in IN_PROCESS:
        if (module := target.line.split()[0]) not in READERS:
            app_of(module)


def report(title: str, outcomes: Iterable[Outcome], total: int) -> list[Outcome]:
    """Runs cases, says how far they are every ten seconds, and prints a table of what became of each kind."""
    started = last = time.monotonic()
    found: list[Outcome] = []
    for outcome in outcomes:
        found.append(outcome)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            failed = sum(outcome.ended == "failed" for outcome in found)
            say(f"{title}: {len(found):,} of {total:,}, {failed:,} failed, {last - started:.0f} s")
    seconds = time.monotonic() - started
    say(f"{title}: {len(found):,} cases, {seconds:.0f} s, {1000 * seconds / max(1, len(found)):.0f} s for a thousand")
    say(_row("kind", "cases", "read", "refused", "failed", "rejected rows", "slowest, s", "mean, ms"))
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        kinds[outcome.kind].append(outcome)
    for kind, of_kind in [*sorted(kinds.items()), ("in all", found)]:
        ended = Counter(outcome.ended for outcome in of_kind)
        times = [outcome.seconds for outcome in of_kind]
        counts = [len(of_kind), *(ended[name] for name in ("read", "refused", "failed"))]
        rejects = sum(outcome.rejects for outcome in of_kind)
        slowest, mean = max(times, default=0), 1000 * sum(times) / max(1, len(times))
        say(_row(kind, *(f"{count:,}" for count in (*counts, rejects)), f"{slowest:.1f}", f"{mean:.0f}"))
    return found


def _row(kind: str, *cells: str) -> str:
    return f"{kind:28}" + "".join(f"{cell:>14}" for cell in cells)


def print_failures(failures: list[Outcome]) -> None:
    """Prints failures by their cause, the most frequent first, each with its first case."""
    groups: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for outcome in failures:
        groups[outcome.group].append(outcome)
    for (kind, error, place), found in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        first = min(found, key=lambda outcome: outcome.number)
        say(f"\n{len(found):,} x {kind}: {error} at {place}")
        say(f"    case {first.number}: {first.line}")
        say(f"    {first.damage}")
        say(f"    {' '.join(first.message.split())!r}")
    say(f"\n{len(failures):,} failures of {len(groups):,} causes")


if __name__ == "__main__":
    app()
