"""Seconds of the CPU that each command takes to print its help: ``python -m benchmarks.startup``.

The floor is the start of Python with the packages that no command of this project can do without: those that read its
options and data.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import typer
from rich.table import Table

from benchmarks.results import compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, others, ratio, spread, take_turns, wall
from parsers.command import run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("parsers", "shards", "pipeline", "pretrain", "finetune", "matcher")
FLOOR = "the floor"
NEEDED = "import typer, typer.rich_utils, rich, pydantic, pyarrow, numpy"
app = typer.Typer(add_completion=False)


def commands() -> list[str]:
    """Returns the modules that are commands, sorted by package."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "\n    run(app)" in path.read_text(encoding="utf-8")
    ]


def start(*arguments: str) -> None:
    """Runs Python with these arguments in the root of the repository, and waits for its end. What it prints is dropped.

    Raises:
        CalledProcessError: Python has failed.
    """
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


@app.command(epilog="Example: python -m benchmarks.startup --rounds 5")
def main(
    rounds: Rounds = ROUNDS,
    out: Out = None,
) -> None:
    """Time the help of every command."""
    contestants = {FLOOR: partial(start, "-c", NEEDED)}
    contestants |= {name: partial(start, "-m", name, "--help") for name in commands()}
    turns = take_turns(contestants, rounds)
    table = Table(
        "command", "CPU s", "wall s", "CPU / floor", "others' cores", title=f"--help; {machine()}", title_justify="left"
    )
    for name, taken in turns.items():
        by_floor = ratio(cpu(turns[FLOOR]), cpu(taken))
        table.add_row(name, f"{spread(cpu(taken)):.2f}", f"{spread(wall(taken)):.2f}", f"{by_floor:.1f}", others(taken))
    slowest = max(commands(), key=lambda name: spread(cpu(turns[name])).median)
    comparison = compare(
        f"the slowest `--help`, `{slowest}`",
        "Python with its imports",
        cpu(turns[slowest]),
        cpu(turns[FLOOR]),
        fair=f"the floor is `{NEEDED}`, which no command here can do without. So this ratio cannot reach 1.",
    )
    publish([table], [comparison], out)


if __name__ == "__main__":
    run(app)
