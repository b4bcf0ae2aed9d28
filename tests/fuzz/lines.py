"""Command lines that nobody should type: wrong types, missing values, unknown names, odd characters, odd paths."""

import contextlib
import io
import multiprocessing
import os
import resource
import shlex
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal, get_args, get_origin
from unittest import mock

import typer

from benchmarks.startup import commands
from parsers.command import run
from tests.fuzz.options import NEVER
from tests.fuzz.run import BYTES, SECONDS
from tests.fuzz.targets import app_of

FILES = {
    "text.txt": b"a dog\n",
    "empty.json": b"",
    "object.json": b"{}",
    "recipe.yaml": b"a: [",
    "bytes.tsv": b"\0\xff\t\n",
}
"""Small files that a line may name; beside them lies a folder ``folder`` with a file."""
NUMBERS = ("-1", "0", "1", "2", "1.5", "-0", "nan", "inf", "1e999", "9" * 400, "0x10", "\u0661", "1_0", " 1", "", "x")
ODD = (
    *(
        "",
        " ",
        "x",
        "-",
        "--",
        "=",
        ",",
        "a=b",
        "=x",
        "*",
        "[",
        "[a",
        "?",
        "{a,b}",
        "%s",
        "%(x)s",
        "\\",
        "'",
        '"',
        "~",
        "@x",
    ),
    *(
        "é",
        "\u202e",
        "\x1b[31m",
        "\x07",
        "\n",
        "\t",
        "\r",
        "\x7f",
        "\udcff",
        "\ufeff",
        "[/b]",
        "[bold",
        "x" * 300,
        "y" * 70_000,
    ),
    *(
        ".",
        "folder",
        *FILES,
        "nowhere",
        "nowhere/x",
        "text.txt/x",
        "/dev/null",
        "/dev/null/x",
        "/proc/self/mem",
        "folder/",
    ),
    *("foo://bar", "file:///proc/nowhere", "://", "x://", "C:\\x", "auto", "val", "cpu", "sng", "vqa", "0", "-1"),
)
MADE = ("out", "out", "out/deep", *ODD)
"""What is given for a folder that is written; all of them lie in the working directory, or cannot be made."""


def make_files(folder: Path) -> None:
    """Writes what lines may name."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "folder" / "inside.txt").write_text("x")


def draw_line(random: Random) -> list[str]:
    """The words of a command line; a command that needs no input gets an option that it does not have."""
    module = random.choice(commands())
    command = typer.main.get_command(app_of(module))
    words = [module]
    if isinstance(command, typer.main.TyperGroup):
        name = random.choice(sorted(command.commands))
        command = command.commands[name]
        words.append(name if random.random() < 0.95 else random.choice(ODD))
    for parameter in command.params:
        if parameter.name in NEVER or parameter.name == "help":
            continue
        if random.random() < (0.9 if parameter.required else 0.3):
            words += _draw_values(parameter, random)
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        words.insert(
            random.randint(1, len(words)), random.choice((*ODD, "--nowhere", "-q", "--out", "--out=", "--no-out"))
        )
    if random.random() < 0.2 and len(words) > 1:
        del words[random.randrange(1, len(words)) :]
    if not any(parameter.required and parameter.name != "out" for parameter in command.params):
        words += ["--nowhere", "--nowhere"]  # an option before them may take the first as its value
    return words


def _draw_values(parameter: typer.core.TyperOption | typer.core.TyperArgument, random: Random) -> list[str]:
    """An option or argument with a value of any kind."""
    names = [random.choice(parameter.opts)] if isinstance(parameter, typer.core.TyperOption) else []
    if getattr(parameter, "is_flag", False):
        return names
    annotation = parameter.type_descriptor.annotation
    kinds = {annotation, *get_args(annotation)}
    if get_origin(annotation) is Literal and random.random() < 0.7:
        return [*names, random.choice(get_args(annotation))]
    if kinds & {int, float} and random.random() < 0.8:
        return [*names, random.choice(NUMBERS)]
    return [*names, random.choice(MADE if "out" in (parameter.name or "") else ODD)]


def run_line(words: list[str]) -> str | None:
    """Runs a command line in this process and the working directory; returns what it should not do, or None."""
    module, *arguments = words
    said = io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", [module, *arguments]),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            run(app_of(module))
    except SystemExit as end:
        errors = [line for line in said.getvalue().splitlines() if line.startswith("error:")]
        if end.code in (0, 2) or (end.code == 1 and len(errors) == 1):
            return None
        return f"exit code {end.code}: {said.getvalue()}"
    except BaseException:  # that is what is looked for
        return traceback.format_exc()
    finally:
        signal.signal(signal.SIGTERM, before)
    return "it has not ended"


def watch_line(seed: str, folder: Path) -> tuple[list[str], str | None]:
    """Runs the line of a seed in a process and a folder of its own; returns it, and what it should not do, or None."""
    words = draw_line(Random(seed))
    make_files(folder)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_run_in, args=(folder, words, sender))
    process.start()
    sender.close()
    found: str | None = "a hang"
    if receiver.poll(SECONDS):
        try:
            found = receiver.recv()
        except EOFError:
            found = "its process has died"
    process.kill()
    process.join()
    return words, found


def _run_in(folder: Path, words: list[str], sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    os.chdir(folder)
    sender.send(run_line(words))


def show(words: list[str]) -> str:
    """A line as a message shows it."""
    text = shlex.join(words)
    return ascii(text if len(text) < 1000 else f"{text[:1000]}...")
