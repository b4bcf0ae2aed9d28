"""Plausible options for a command line, drawn from what the command declares."""

import inspect
import shlex
import typing
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from tests.fuzz.targets import app_of

NEVER = {"engine", "ray_address", "gpus", "device", "seeds", "untrained", "learning_rate"}
"""Options that start a cluster, need hardware, or ask for hours of training."""
NUMBERS = ("0", "1", "2", "3", "7", "-1", "x", "1.5", "")
SHARES = ("0", "0.1", "0.5", "1", "-1", "2", "nan", "inf", "1e-30", "x")
WORDS = (
    "",
    "x",
    "é",
    "auto",
    "train",
    "val",
    "nowhere/x",
    "a=b",
    "steps=1",
    "batch_size=0",
    "seed=-1",
    "optimizer=1",
    ".",
)
WORDS += (
    "image_id=url,caption=text",
    "optimizer.learning_rate=nan",
    "[bold]",
    "-",
    "coco",
    "csv",
    "random",
    "dependency",
)


def with_options(line: str, seeds: list[str], random: Random) -> str:
    """A command line with a few more options, or without a word."""
    words = shlex.split(line)
    known = _options(words)
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        if known:
            option, kind = random.choice(known)
            words += _drawn(option, kind, seeds, random)
    if random.random() < 0.05:
        del words[random.randrange(1, len(words))]
    return shlex.join(words)


def _options(words: list[str]) -> list[tuple[str, Any]]:
    """(option, type) of the options of a command that its line does not give."""
    app = app_of(words[0])
    names = {command.name or command.callback.__name__: command.callback for command in app.registered_commands}
    callback = names.get(words[1]) or next(iter(names.values()))
    found = []
    for name, hint in get_type_hints(callback, include_extras=True).items():
        kind, declared = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
        if not isinstance(declared, typer.models.OptionInfo) or declared.hidden or name in NEVER:
            continue
        option = (declared.param_decls or (f"--{name.strip('_').replace('_', '-')}",))[0]
        if option not in words:
            found.append((option, kind))
    return found


def _drawn(option: str, kind: Any, seeds: list[str], random: Random) -> list[str]:
    """The option with a value."""
    inner = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return [option, random.choice((*map(str, get_args(kind)), "x"))]
    if inner and get_origin(kind) in (list, typing.Union, type(int | str)):
        return _drawn(option, inner[0], seeds, random)
    if kind is bool:
        return [option]
    if kind is int:
        return [option, random.choice(NUMBERS)]
    if kind is float:
        return [option, random.choice(SHARES)]
    if inspect.isclass(kind) and issubclass(kind, Path):
        return [option, random.choice((*seeds, "nowhere", "."))]
    return [option, random.choice((*WORDS, *seeds))]
