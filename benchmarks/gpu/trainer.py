"""Runs ``pretrain/run.py`` as users start it, but in forked processes, so that nothing is imported again."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from socket import socket

import psutil

from benchmarks.gpu.steps import Setting

_context = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended."""

    out: Path
    code: int
    """exit code of rank 0; a negative number is the signal that has killed it"""
    output: str
    """the output of all ranks"""

    def lines(self, of: str = "loss") -> list[dict[str, float]]:
        """Returns the lines of ``metrics.jsonl`` that have this metric."""
        return [line for line in metrics(self.out) if of in line]

    def succeed(self) -> Run:
        """Returns the run itself.

        Raises:
            AssertionError: the run has failed.
        """
        assert self.code == 0, f"{self.out.name} has ended with exit code {self.code}: {last_line(self.output)}"
        return self


def metrics(out: Path) -> list[dict[str, float]]:
    """Returns the lines that a run has logged so far."""
    path = out / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def train(
    setting: Setting,
    recipe: Path,
    shards: Path,
    out: Path,
    *settings: str,
    resume: bool = False,
    ranks: int = 1,
    before: Callable[[], None] = lambda: None,
    until: Callable[[Path], bool] = lambda _: False,
) -> Run:
    """Trains. The calling process must not have used CUDA, nor computed with torch.

    Args:
        setting: of the step.
        recipe: file of the recipe.
        shards: folder to train on.
        out: folder of the run.
        settings: changes of the recipe.
        resume: whether to continue the run in the folder.
        ranks: number of processes.
        before: what each process does first.
        until: is called with ``out`` again and again; when it returns True, the run gets SIGKILL.
    """
    arguments = ["--config", str(recipe), "--shards", str(shards), "--out", str(out)]
    arguments += [part for change in settings for part in ("--set", change)] + ["--resume"] * resume
    printed = setting.log.stat().st_size
    receiver, sender = _context.Pipe(duplex=False)
    port = _free_port()
    processes = [
        _context.Process(target=_main, args=(arguments, rank, ranks, port, before, sender)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if until(out):
            _kill(processes)
        time.sleep(0.02)
    if receiver.poll():
        missing = receiver.recv()
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
    with setting.log.open("rb") as stream:
        stream.seek(printed)
        output = stream.read().decode(errors="replace")
    code = processes[0].exitcode
    assert code is not None
    return Run(out, code, output)


def _main(
    arguments: Sequence[str], rank: int, ranks: int, port: int, before: Callable[[], None], sender: Connection
) -> None:
    if ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
    sys.argv = ["pretrain/run.py", *arguments]
    try:
        before()
        from parsers.command import run
        from pretrain.run import app

        run(app)
    except ModuleNotFoundError as error:
        sender.send(error.name)
        raise


def _kill(processes: Sequence[ForkProcess]) -> None:
    """Kills processes and the workers that read for them."""
    for process in processes:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()


def _free_port() -> int:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def last_line(output: str) -> str:
    """Returns the last line of the output that is not blank, or a sentence that says that there is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it has printed nothing"
