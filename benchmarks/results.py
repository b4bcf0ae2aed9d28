"""The results of all benchmarks as one page: ``python -m benchmarks.results benchmarks/measured docs/benchmarks.md``.

Each benchmark leaves a file with ``--out``: its comparisons, its tables, and when, where and on which commit they were
measured. So what is measured rarely stays on the page, and says how old it is.
"""

from __future__ import annotations

import io
import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.turns import Spread, machine, ratio, spread
from parsers.command import InputError, console, run
from shards.storage.files import read_json, write_atomic, write_indented_json

WIDTH = 120
"""Columns of a printed table."""
PARTS = {
    "parse": "Parsing captions",
    "model": "The model",
    "retrieval": "Scoring captions with images",
    "startup": "Starting a command",
    "regions": "Importing regions",
    "shards": "Reading and writing shards",
    "loader": "Loading batches",
    "training": "The training loop",
    "extract": "Extracting regions",
    "step_costs": "Where a training step goes",
    "pack": "Memory of packing",
    "order": "Batches of a very large set",
}
"""The benchmarks in the order of the page; the last three are those that only ``make bench-full`` runs."""
ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = """\
# Benchmarks

`make bench` measures what this page has, writes its results to `benchmarks/measured/`, and makes the page of them. It
takes up to 20 minutes on two cores. `make bench-full` also measures what takes longer, or tens of gigabytes of disk:
the last parts.

- **In turns.** In each round every contestant does its work once, so a busy machine is busy for all of them.
- **Seconds of the CPU**, of a process with all its children, on one thread each. Where waiting is the point (a disk,
  several workers, a network) it is the wall clock.
- **Medians of all rounds, with the lowest and the highest.** A ratio is taken round by round. 2.0 says that ours is
  twice as fast.
"""
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A line of the page: our seconds beside those of a peer that does the same."""

    what: str
    peer: str
    """name and version"""
    clock: str
    """CPU or wall"""
    unit: str
    """what the times are for, such as "ms a caption\""""
    ours: Spread
    theirs: Spread
    faster: Spread
    """their times divided by ours, by round"""
    fair: str
    """what is compared, and why that is fair"""


def compare(
    what: str,
    peer: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    fair: str,
    clock: str = "CPU",
    unit: str = "s",
    scale: float = 1.0,
) -> Comparison:
    """Makes a line of the seconds of each round.

    Args:
        what: our work.
        peer: whose work it is compared with, by name and version.
        ours: our seconds, by round.
        theirs: the peer's seconds, by round.
        fair: what is compared, and why that is fair.
        clock: CPU or wall.
        unit: the unit of the times.
        scale: how many of the unit a second is.
    """
    mine, others = (spread(scale * value for value in values) for values in (ours, theirs))
    return Comparison(what, peer, clock, unit, mine, others, ratio(ours, theirs), fair)


def publish(tables: Sequence[Table | str], comparisons: Sequence[Comparison], out: Path | None) -> None:
    """Prints tables and lines of text, and with ``out`` writes them and the comparisons to a file."""
    text = io.StringIO()
    for target in (console, Console(file=text, width=WIDTH, color_system=None)):
        for table in tables:
            target.print(table, soft_wrap=isinstance(table, str), highlight=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": _commit(),
            "machine": machine(),
            "comparisons": [_to_json(comparison) for comparison in comparisons],
            "text": text.getvalue(),
        }
        write_indented_json(record, out)


def _to_json(comparison: Comparison) -> dict[str, Any]:
    """Returns its values; those of a spread are None where there was too little to time, for JSON has no NaN."""
    return {
        name: {key: None if math.isnan(number) else number for key, number in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in asdict(comparison).items()
    }


def _commit() -> str:
    """Returns the commit; a + says that code was changed since."""
    name, changes = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        for words in (
            ["rev-parse", "--short=10", "HEAD"],
            ["status", "--porcelain", "--untracked-files=no", "--", "*.py"],
        )
    )
    return f"{name or 'unknown'}{'+' if changes else ''}"


def make_page(folder: Path) -> str:
    """Makes the page of all results in a folder.

    Raises:
        InputError: a file there is none of ours.
    """
    records = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    unknown = records.keys() - PARTS.keys()
    if unknown:
        raise InputError(f"{folder}: there is no benchmark {', '.join(sorted(unknown))}; remove its file")
    missing = [name for name in PARTS if name not in records]
    parts = [INTRODUCTION]
    if missing:
        parts.append(f"Not measured yet: {', '.join(f'`benchmarks.{name}`' for name in missing)}.\n")
    known = {name: records[name] for name in PARTS if name in records}
    lines = [line for record in known.values() for line in record["comparisons"]]
    if lines:
        parts += ["## All comparisons\n", _tabulate(lines)]
    for name, record in known.items():
        where = f"`python -m benchmarks.{name}`, {record['date']}, commit {record['commit']}: {record['machine']}.\n"
        fair = _explain(record["comparisons"])
        parts += [
            f"## {PARTS[name]}\n",
            where,
            *([*fair, ""] if fair else []),
            f"```text\n{record['text'].rstrip()}\n```\n",
        ]
    return "\n".join(parts)


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict) or not {"date", "commit", "machine", "comparisons", "text"} <= record.keys():
        raise InputError(f"{path}: not the results of a benchmark; run the benchmark again with --out")
    return record


def _tabulate(lines: Sequence[dict[str, Any]]) -> str:
    rows = ["| | compared with | clock | ours | theirs | times as fast |", "|---|---|---|---|---|---|"]
    for line in lines:
        cells = [line["what"], line["peer"], line["clock"]]
        cells += [f"{_figure(line[name])} {line['unit']}" for name in ("ours", "theirs")]
        rows.append(f"| {' | '.join(cells)} | **{_figure(line['faster'])}** |")
    return "\n".join(rows) + "\n"


def _explain(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Says of each comparison why it is fair; comparisons of which the same is said stand together."""
    names: dict[str, list[str]] = {}
    for line in lines:
        names.setdefault(line["fair"], []).append(f"**{line['what']}**, beside {line['peer']}")
    return [f"- {'; '.join(of_text)}: {text}" for text, of_text in names.items()]


def _figure(values: dict[str, float | None]) -> str:
    """Writes a spread with three digits, or a dash where there was too little to time."""
    numbers = [value for name in ("median", "low", "high") if (value := values[name]) is not None]
    if len(numbers) < len(values):
        return "–"
    median, low, high = (f"{number:,.0f}" if number >= 100 else f"{number:.3g}" for number in numbers)
    return f"{median} ({low}–{high})"


@app.command(epilog="Example: python -m benchmarks.results benchmarks/measured docs/benchmarks.md")
def main(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The results of the benchmarks.")],
    page: Annotated[Path, typer.Argument(metavar="PAGE", help="The page that is written.")],
) -> None:
    """Make the page of all results."""
    write_atomic(page, make_page(folder).encode())
    console.print(f"written: {page}", soft_wrap=True)


if __name__ == "__main__":
    run(app)
