"""``pipeline.regions`` beside a loop that reads the same files with NumPy: ``python -m benchmarks.regions``.

Generated regions, 36 of 2,048 float32 features an image: in the six columns of bottom-up-attention (base64), and in a
``.npz`` an image with a distribution over 1,601 classes, as ViLBERT's extractor writes it. We check every number, turn
features into float16, sort the classes and write Parquet that is flushed to the disk. The loop checks nothing; it only
reads, or it also saves the same float16 arrays, image by image, with ``numpy.savez``. One process, one thread.
"""

from __future__ import annotations

import base64
import csv
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.results import compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, Turn, cpu, machine, others, ratio, spread, take_turns
from parsers.command import run
from pipeline.execution.parts import Part
from pipeline.regions.formats import FORMATS
from pipeline.regions.stage import RegionsStage
from shards.regions.tsv import BOTTOM_UP_ATTENTION
from shards.schema import Array

BOXES, FEATURES, CLASSES = 36, 2048, 1601
TSV, NPZ = "butd-tsv", "vilbert-npz"
Arrays = dict[str, Array]
app = typer.Typer(add_completion=False)


def make_image(number: int) -> Arrays:
    """The regions of an image, with half of the features at 0 as after a ReLU."""
    random = np.random.default_rng(number)
    corner = random.uniform(0, 300, (BOXES, 2))
    scores = random.exponential(size=(BOXES, CLASSES)) ** 8
    return {
        "boxes": np.concatenate([corner, corner + random.uniform(1, 100, (BOXES, 2))], axis=1).astype(np.float32),
        "features": np.maximum(random.standard_normal((BOXES, FEATURES), np.float32), 0),
        "cls_prob": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
    }


def write_tsv(path: Path, images: int) -> None:
    """The layout of bottom-up-attention."""
    with path.open("w", encoding="ascii") as stream:
        for number in range(images):
            made = make_image(number)
            boxes, features = (base64.b64encode(made[name].tobytes()).decode() for name in ("boxes", "features"))
            stream.write("\t".join([str(number), "640", "480", str(BOXES), boxes, features]) + "\n")


def write_npz(folder: Path, images: int) -> None:
    """The layout of ViLBERT's extractor."""
    folder.mkdir()
    for number in range(images):
        made = make_image(number)
        arrays: dict[str, Any] = {"num_boxes": BOXES, "image_width": 640, "image_height": 480, "image_id": str(number)}
        arrays |= {"bbox": made.pop("boxes"), **made}
        np.savez(folder / f"{number}.npz", **arrays)


def read_tsv(path: Path) -> Iterator[Arrays]:
    """Reads the file as bottom-up-attention's own ``read_tsv.py`` does."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="ascii", newline="") as stream:
        for item in csv.DictReader(stream, delimiter="\t", fieldnames=BOTTOM_UP_ATTENTION):
            yield {
                name: np.frombuffer(base64.b64decode(item[name]), np.float32).reshape(int(item["num_boxes"]), -1)
                for name in ("boxes", "features")
            }


def read_npz(folder: Path) -> Iterator[Arrays]:
    """Every array of every file."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            yield {name: file[name] for name in file.files}


def exhaust(read: Callable[[], Iterator[Arrays]]) -> int:
    """Reads all; returns how many arrays there were."""
    return sum(len(arrays) for arrays in read())


def save(read: Callable[[], Iterator[Arrays]], folder: Path) -> None:
    """Writes one file for each image, with features and probabilities as float16."""
    folder.mkdir(exist_ok=True)
    for number, arrays in enumerate(read()):
        kept: dict[str, Any] = {
            name: array.astype(np.float16) if name in ("features", "cls_prob") else array
            for name, array in arrays.items()
        }
        np.savez(folder / f"{number}.npz", **kept)


def convert(source: Path, format: str, out: Path) -> None:
    """Converts the file as `pipeline.regions` does."""
    reader = FORMATS[format]
    stage = RegionsStage(tuple(reader.files([source])), format, reader.inspect([source], None), 1000)
    work = stage.worker()
    for number, partition in enumerate(stage.partitions()):
        part = Part(out, number)
        work(partition, part)
        part.complete()


@app.command(epilog="Example: python -m benchmarks.regions --num-images 500 --rounds 5")
def main(
    images: Annotated[int, typer.Option("--num-images", min=1, help="How many images.")] = 300,
    rounds: Rounds = ROUNDS,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default: the temporary folder.")] = None,
    out: Out = None,
) -> None:
    """Time the conversion of regions."""
    races: dict[tuple[str, str], tuple[list[Turn], list[Turn]]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        write_tsv(place / "regions.tsv", images)
        write_npz(place / "npz", images)
        sources: dict[str, tuple[Path, Callable[[], Iterator[Arrays]]]] = {
            TSV: (place / "regions.tsv", partial(read_tsv, place / "regions.tsv")),
            NPZ: (place / "npz", partial(read_npz, place / "npz")),
        }
        for format, (source, read) in sources.items():
            peers: dict[str, Callable[[], object]] = {
                "NumPy reads": partial(exhaust, read),
                "NumPy reads and saves": partial(save, read, place / "saved"),
            }
            ours = partial(convert, source, format, place / f"ours-{format}")
            turns = take_turns({"ours": ours, **peers}, rounds)
            races |= {(format, peer): (turns["ours"], turns[peer]) for peer in peers}
    title = f"{images:,} images, seconds of the CPU; {machine()}"
    table = Table("", "the peer", "ours s", "peer s", "peer / ours", "others' cores", title=title, title_justify="left")
    for (format, peer), (ours_turns, theirs) in races.items():
        seconds = cpu(ours_turns), cpu(theirs)
        figures = (f"{spread(taken).median:.2f}" for taken in seconds)
        table.add_row(format, peer, *figures, f"{ratio(*seconds):.2f}", others(ours_turns + theirs))
    comparisons = [
        compare(
            f"`pipeline.regions`, {format}",
            f"{peer}, NumPy {np.__version__}",
            cpu(ours_turns),
            cpu(theirs),
            fair="the same files. Ours checks every number, turns features into float16, sorts the classes and writes "
            "Parquet that is flushed to the disk. The loop checks nothing; it only reads, or it also saves the "
            "same float16 arrays with `numpy.savez`.",
        )
        for (format, peer), (ours_turns, theirs) in races.items()
    ]
    publish([table], comparisons, out)


if __name__ == "__main__":
    run(app)
