"""What every command shares: how errors end it, and how progress is shown."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shards.errors import InputError

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_PROGRESS_SECONDS = 10.0


def say(text: str) -> None:
    """Prints a line as it is: not wrapped, brackets and all."""
    console.print(text, soft_wrap=True, markup=False)


def run(app: typer.Typer) -> NoReturn:
    """Runs a command: exit code 0 when all is well, 1 on bad input, 2 on wrong usage, 130/143 when interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except InputError as error:
        _errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    sys.exit(0)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows progress; yields a function that takes the number of units just done.

    A bar on a terminal, a plain line every ten seconds elsewhere.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda done: bar.advance(task, done)
        return

    count, last = 0, time.monotonic()

    def advance(done: int) -> None:
        nonlocal count, last
        count += done
        if time.monotonic() - last >= PLAIN_PROGRESS_SECONDS:
            last = time.monotonic()
            console.print(f"{description}: {count:,}" + (f" of {total:,}" if total is not None else ""))

    yield advance
