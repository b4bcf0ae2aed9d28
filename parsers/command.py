"""The parts that all commands share: the error that ends them, exit codes, the console and the progress display."""

from __future__ import annotations

import errno
import json
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partialmethod
from types import FrameType
from typing import Any, NoReturn, Protocol

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperCommand
from typer.exceptions import TyperException

_INVISIBLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # controls, the first character of an escape sequence among them; not the line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of the text that follows
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"  # what has no shape
    "\ud800-\udfff]"  # bytes of file names that are no UTF-8; a terminal cannot be sent them
)


def make_visible(text: str) -> str:
    """Spells out the characters of a text that a terminal would obey or hide: ESC becomes ``\\x1b``."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


class SafeConsole(Console):
    """A console that can print text from anywhere: brackets are no markup, and whatever acts unseen is spelled out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """See `rich.console.Console`. A text gets its width here, so it is spelled out before."""
        return super().render_str(make_visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console`. Everything that is printed comes by here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=make_visible(segment.text))


console = SafeConsole()
_errors = SafeConsole(stderr=True)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""what the system answers where a disk, a quota or a file has no room left"""

NARROW = 70
"""Columns of a terminal that are too few for tables of options."""

PLAIN_PROGRESS_SECONDS = 10.0
"""Seconds between two progress lines where no bar can be shown."""


class InputError(Exception):
    """Something that the user gave is wrong. The message says what is wrong, where, and what to do.

    Commands print the message without a traceback and exit with code 1.
    """


def say(text: str) -> None:
    """Prints a line exactly as given: it is not wrapped, and brackets are not read as markup."""
    console.print(text, soft_wrap=True)


def warn(text: str) -> None:
    """Prints a line as `say` does, but on standard error."""
    _errors.print(text, soft_wrap=True)


def shorten_json(value: object) -> str:
    """A value as JSON for a message, cut off after 120 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def run(app: typer.Typer) -> NoReturn:
    """Runs a command and exits.

    The exit code is 0 if all went well, 1 on bad input, 2 on wrong usage, 130 after Ctrl-C and 143 after SIGTERM.
    A file that the system refuses by its name is bad input, too: no checks beforehand can know all that it refuses.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = fit_help(app)(standalone_mode=False, terminal_width=console.width)
    except TyperException as error:
        if error.format_message():
            _fail(_explain_usage(error), error.exit_code)
        sys.exit(error.exit_code)  # without a message: nothing was asked for, and the help is printed
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None and error.errno not in _NO_ROOM:
            raise
        _fail(str(error), 1)
    sys.exit(code or 0)


def fit_help(app: typer.Typer) -> typer.Typer:
    """Makes the help of a command plain text in a narrow terminal, where the columns of a table would be cut off.

    What an option does then stands below its name and not beside it.
    """
    if console.width < NARROW:
        app.rich_markup_mode = None
        formatter = TyperCommand.context_class.formatter_class
        formatter.write_dl = partialmethod(formatter.write_dl, col_max=2)  # type: ignore[assignment, method-assign]
    return app


def _fail(message: str, code: int) -> NoReturn:
    """Prints a message as one line and exits. A name with a line feed must not look like another line."""
    _errors.print(Text("error:", "bold red"), re.sub(r"\s*\n\s*", " ", message), soft_wrap=True)
    sys.exit(code)


def _explain_usage(error: TyperException) -> str:
    """Returns what is wrong with a command line, what was probably meant, and where the options are listed."""
    similar, context = getattr(error, "possibilities", None), getattr(error, "ctx", None)
    message = f"{error.message}; did you mean {similar[0]}?" if similar else error.format_message().rstrip(".")
    return message if context is None or message.endswith("?") else f"{message}; see {context.command_path} --help"


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)


def pluralize(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 part", "2,000 parts", "3 batches"."""
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


class Advance(Protocol):
    """Reports progress: ``done`` more units, and how many ``rows`` they held if rows are counted as well."""

    def __call__(self, done: int, /, rows: int = 0) -> None:
        """Adds to what was reported before."""
        ...


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Shows progress: a bar on a terminal, elsewhere a line every ten seconds.

    Args:
        description: what is being done, for instance "packing".
        total: how many units there are; not given if nobody knows.
        unit: what is counted, in the singular: "step".

    Yields:
        A function to call whenever some units are done.
    """
    count = seen = 0
    started = last = time.monotonic()

    def so_far() -> str:
        text = f"{description}: {pluralize(count, unit) if total is None else f'{count:,} of {pluralize(total, unit)}'}"
        seconds = time.monotonic() - started
        if not seen or not seconds:
            return text
        rate = seen / seconds
        return f"{text}, {pluralize(seen, 'row')}, {rate:,.{0 if rate >= 10 else 1}f}/s"

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) if console.is_terminal else nullcontext() as bar:
        task = None if bar is None else bar.add_task(so_far(), total=total)

        def advance(done: int, rows: int = 0) -> None:
            nonlocal count, seen, last
            count, seen = count + done, seen + rows
            if bar is not None and task is not None:
                bar.update(task, advance=done, description=so_far())
            elif time.monotonic() - last >= PLAIN_PROGRESS_SECONDS:
                last = time.monotonic()
                say(so_far())

        yield advance
