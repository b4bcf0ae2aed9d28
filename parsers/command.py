"""What every command shares: the error that ends it, its exit codes, and how progress is shown."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import NoReturn, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_PROGRESS_SECONDS = 10.0


class InputError(Exception):
    """Something the user gave is wrong; the message says what, where and what to do.

    Commands print it without a traceback and exit with code 1.
    """


def say(text: str) -> None:
    """Prints a line as it is: not wrapped, brackets and all."""
    console.print(text, soft_wrap=True, markup=False)


def pluralize(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 part", "2,000 parts", "3 batches"."""
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


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


class Advance(Protocol):
    """Says that ``done`` more units are done, and how many ``rows`` they held, where that is of interest."""

    def __call__(self, done: int, rows: int = 0) -> None:
        """Adds to what was done before."""
        ...


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Shows progress; yields a function that takes what was just done.

    A terminal gets a bar, and anything else a plain line every ten seconds. ``unit`` is one of what is counted: "step".
    """
    count = seen = 0
    started = last = time.monotonic()

    def so_far() -> str:
        text = f"{description}: {pluralize(count, unit) if total is None else f'{count:,} of {pluralize(total, unit)}'}"
        seconds = time.monotonic() - started
        return text + (f", {pluralize(seen, 'row')}, {seen / seconds:,.0f}/s" if seen and seconds else "")

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) if console.is_terminal else nullcontext() as bar:
        task = None if bar is None else bar.add_task(so_far(), total=total)

        def advance(done: int, rows: int = 0) -> None:
            nonlocal count, seen, last
            count, seen = count + done, seen + rows
            if bar is not None and task is not None:
                bar.update(task, advance=done, description=so_far())
            elif time.monotonic() - last >= PLAIN_PROGRESS_SECONDS:
                last = time.monotonic()
                console.print(so_far())

        yield advance
