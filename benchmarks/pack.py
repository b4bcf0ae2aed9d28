"""Peak memory of ``pipeline.pack`` as the input grows: ``python -m benchmarks.pack --num-images 25000``.

The images are generated: 36 regions of 2,048 float16 features, their 20 most likely classes, two captions, and ids as
long as the URLs of Conceptual Captions.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.table import Table

from benchmarks.processes import run_alone
from benchmarks.results import publish
from benchmarks.turns import Out
from parsers.command import run
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.graph_table import GRAPHS, GRAPHS_VERSION, tabulate_nodes, write_graphs
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, RegionsRow, write_regions
from shards.schema import Regions

BOXES, FEATURES, CLASSES, TOP = 36, 2048, 1601, 20
PART = 1000
TEXT = "a red fire hydrant on the side of the street"
GRAPH = SceneGraph(
    TEXT,
    (Object("fire hydrant", Span(6, 18)), Object("street", Span(38, 44))),
    (Attribute(0, "red", Span(2, 5)),),
    (Relation(0, 1, "on side of", (Span(19, 21), Span(26, 33))),),
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.pack --num-images 25000 --num-images 50000")
def main(
    images: Annotated[list[int], typer.Option("--num-images", help="How many images to pack; may be repeated.")],
    workers: Annotated[int, typer.Option(min=1)] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where there is room for twice the features.")] = None,
    out: Out = None,
) -> None:
    """Measure the memory of pack."""
    table = Table("images", "regions GB", "seconds", "images/s", "peak MB of a process")
    for count in images:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            world = Path(name)
            size = _write(world, count)
            command = [
                sys.executable,
                "-m",
                "pipeline.pack",
                "--graphs",
                str(world / "graphs"),
                "--held-out-share",
                "0.05",
            ]
            command += ["--regions", str(world / "regions"), "--tokenizer", str(world / "vocab.txt")]
            started = time.perf_counter()
            memory, _ = run_alone([*command, "--out", str(world / "shards"), "--workers", str(workers)])
            seconds = time.perf_counter() - started
        table.add_row(
            f"{count:,}", f"{size / 1e9:.1f}", f"{seconds:.0f}", f"{count / seconds:,.0f}", f"{memory / 1e6:,.0f}"
        )
    publish([table], [], out)


def _write(world: Path, count: int) -> int:
    """Writes graphs, regions and a vocabulary; returns the bytes of the regions."""
    (world / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*SPECIAL, *TEXT.split()]))
    values = np.random.default_rng(0)
    info = RegionsInfo(FEATURES, Classes(kind="top-k", count=CLASSES, background=0, names=None), None)
    low = values.uniform(0, 200, (BOXES, 2))
    boxes = np.concatenate([low, low + 100], axis=1).astype(np.float32)
    ids = np.stack([values.choice(CLASSES, TOP, replace=False) for _ in range(BOXES)]).astype(np.int16)
    probabilities = np.sort(values.dirichlet(np.ones(TOP), BOXES))[:, ::-1].astype(np.float16)
    size = 0
    for name in ("graphs", "regions"):
        (world / name).mkdir()
    for part, first in enumerate(range(0, count, PART)):
        numbers = range(first, min(first + PART, count))
        # Any bits without the highest exponent are a number, and cannot be compressed.
        bits = values.integers(0, 0x3BFF, (len(numbers), BOXES, FEATURES), np.uint16)
        urls = [f"https://static.flickr.com/{n % 97}/{n}_{'0123456789abcdef' * 2}_o.jpg" for n in numbers]
        rows = [
            RegionsRow(url, 640, 480, Regions(boxes, features, ids, probabilities))
            for url, features in zip(urls, bits.view(np.float16), strict=True)
        ]
        path = world / "regions" / f"part-{part:05d}.parquet"
        with path.open("wb") as stream:
            write_regions(stream, rows, info)
        size += path.stat().st_size
        columns = {
            "image_id": [row.image_id for row in rows for _ in range(2)],
            "caption_id": ["0", "1"] * len(rows),
            "caption": [TEXT] * 2 * len(rows),
            "segments": [None] * 2 * len(rows),
            **tabulate_nodes([GRAPH] * 2 * len(rows)),
        }
        metadata = {"graphs_version": GRAPHS_VERSION, "parser": "benchmark", "parser_version": "1"}
        with (world / "graphs" / path.name).open("wb") as stream:
            write_graphs(stream, pa.table(columns, GRAPHS), metadata)
    for name in ("graphs", "regions"):
        (world / name / "report.json").write_text("{}")
    return size


if __name__ == "__main__":
    run(app)
