"""Pictures per second of ``pipeline.extract``, by step, beside the same network called picture by picture.

``python -m benchmarks.extract PICTURES``: one process, one thread of the network, and for the stage its threads that
decode pictures before the network and make rows after it. The contestants take turns, and each writes its table.
Seconds of the CPU tell what the work costs. What the threads gain shows only in those of the wall clock, where others
leave the machine alone, and where the network computes elsewhere: the last two contestants have one that finds what the
real one found in the first picture, and takes ``--wait`` milliseconds a picture without using the CPU, as on a GPU.
They take as many pictures as a part has, those of the folder again and again. Weights may be random: they take as long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.results import compare, publish
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, others, ratio, spread, take_turns, wall
from parsers.command import InputError, run
from pipeline import detectors
from pipeline.detectors import Detections, Detector
from pipeline.execution.parts import Part, Reject
from pipeline.extract import images
from pipeline.extract.images import ImageSource
from pipeline.extract.prefetch import by_shape
from pipeline.extract.stage import HELD_BYTES, ExtractStage, PicturePartition, regions_info, to_row
from shards.regions.table import RegionsRow, write_regions
from shards.schema import Array

app = typer.Typer(add_completion=False)
PEER, STAGE = "picture by picture", "the stage"
PART = 256
"""Default number of pictures in a part of the stage."""
AGAINST = {STAGE: PEER, f"{STAGE}, waiting": f"{PEER}, waiting"}


class Waiting:
    """Stands for a network that computes on another device: it only waits."""

    name, version = "waiting", "1"

    def __init__(self, like: Detector, found: Detections, seconds: float) -> None:
        """Takes the real network, what it found in a picture, and the seconds that each picture takes."""
        self.feature_size, self.class_names = like.feature_size, like.class_names
        self.attribute_names, self.background = like.attribute_names, like.background
        corner = np.array([0, 0, 16, 16], np.float32)  # in a picture of any size
        self._found = replace(found, boxes=np.tile(corner, (len(found.boxes), 1)))
        self._seconds = seconds

    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:  # noqa: ARG002
        """See `pipeline.detectors.Detector`."""
        time.sleep(self._seconds * len(images))
        return [self._found] * len(images)


@app.command(epilog="Example: python -m benchmarks.extract val2017/ --detector vg-bottom-up --weights frcnn.bin")
def main(
    folder: Annotated[Path, typer.Argument(metavar="PICTURES", help="A folder of pictures.")],
    detector: Annotated[str, typer.Option(help="Detector.")] = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    weights: Annotated[str, typer.Option(help="File of weights, or random.")] = "random",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the network runs.")] = "cpu",
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Precision of the network.")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of one shape in a batch, at most.")] = 8,
    count: Annotated[int, typer.Option("--num-images", min=1, help="Number of pictures.")] = 24,
    wait: Annotated[float, typer.Option(min=0, help="Milliseconds a picture of the network that waits.")] = 5,
    rounds: Rounds = ROUNDS,
    out: Out = None,
) -> None:
    """Time the steps of the stage."""
    torch.set_num_threads(1)
    options = {"weights": weights, "device": device, "precision": precision}
    network = detectors.get(detector, **options)
    stage, every = make_stage(folder, detector, options, network, batch_size, PART)
    sources, part_of_sources, info = every[:count], list(islice(cycle(every), PART)), stage.info
    pixels = [picture for picture in map(images.load_picture, sources) if not isinstance(picture, Reject)]
    if len(pixels) < len(sources):
        raise InputError(f"{folder}: {len(sources) - len(pixels)} pictures cannot be decoded; name others")
    batches = list(by_shape(enumerate(pixels), batch_size, HELD_BYTES))
    detections = [found for picture in pixels for found in network.detect([picture])]

    def write(rows: list[RegionsRow | Reject], folder: Path) -> None:
        part = Part(folder, 0)
        with part.open("rows.parquet") as stream:
            write_regions(stream, [row for row in rows if isinstance(row, RegionsRow)], info)
        part.complete()

    def post_process(folder: Path) -> None:
        write([to_row(*item, info, None) for item in zip(sources, pixels, detections, strict=True)], folder)

    def one_by_one(network: Detector, sources: list[ImageSource], folder: Path) -> None:
        rows = []
        for source in sources:
            picture = images.load_picture(source)
            assert not isinstance(picture, Reject)
            rows.append(to_row(source, picture, network.detect([picture])[0], info, None))
        write(rows, folder)

    def extract(network: Detector, sources: list[ImageSource], folder: Path) -> None:
        part = Part(folder, 0)
        stage.extract(network, PicturePartition(sources, [], 0), part)
        part.complete()

    waiting = Waiting(network, detections[0], wait / 1000)

    contestants: dict[str, Callable[[Path], object]] = {
        "decode": lambda _: [images.load_picture(source) for source in sources],
        "network": lambda _: [network.detect([picture for _, picture in batch]) for batch in batches],
        "post-processing": post_process,
        PEER: partial(one_by_one, network, sources),
        STAGE: partial(extract, network, sources),
        f"{PEER}, waiting": partial(one_by_one, waiting, part_of_sources),
        f"{STAGE}, waiting": partial(extract, waiting, part_of_sources),
    }

    def in_a_folder(work: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory() as place:
            work(Path(place))

    turns = take_turns({name: partial(in_a_folder, work) for name, work in contestants.items()}, rounds)
    boxes = sum(len(found.boxes) for found in detections) / len(detections)
    table = Table(
        "", "CPU ms a picture", "as fast, by CPU", "wall ms a picture", "as fast, by the clock", "others' cores",
        title=f"{len(sources)} pictures, {boxes:.0f} regions each, {detector}; {machine()}", title_justify="left",
    )  # fmt: skip
    comparisons = []
    for name, taken in turns.items():
        waits = name.endswith("waiting")
        number = PART if waits else len(sources)
        ratios = [""] * 2
        if name in AGAINST:
            peer = turns[AGAINST[name]]
            ratios = [f"× {ratio(clock(taken), clock(peer)):.2f}" for clock in (cpu, wall)]
            clock = wall if waits else cpu
            comparisons.append(
                compare(
                    f"`pipeline.extract`, a network that waits {wait:g} ms" if waits else "`pipeline.extract`",
                    f"{PEER}, {detector}",
                    clock(taken),
                    clock(peer),
                    clock="wall" if waits else "CPU",
                    unit="ms a picture",
                    scale=1000 / number,
                    fair="the same pictures, network and table that is written. The peer decodes, computes and sorts "
                    "picture by picture; the stage decodes ahead. On a CPU the network takes nearly all of the "
                    "time. A network that only waits stands for one on a GPU.",
                )
            )
        table.add_row(
            name,
            f"{1000 * spread(cpu(taken)).median / number:,.1f}",
            ratios[0],
            f"{1000 * spread(wall(taken)).median / number:,.1f}",
            ratios[1],
            others(taken),
        )
    publish([table], comparisons, out)


def make_stage(
    folder: Path, detector: str, options: Mapping[str, Any], network: Detector, batch_size: int, count: int
) -> tuple[ExtractStage, list[ImageSource]]:
    """Returns the stage for a folder of pictures, and the first ``count`` pictures; ``network`` is the detector."""
    found, _ = images.recognise_pictures(folder, "auto", None)
    sources = [source for source in found.sources() if isinstance(source, ImageSource)][:count]
    info = regions_info(network, None)
    stage = ExtractStage(
        (found,), detector, tuple(options.items()), network.version, info, None, None, batch_size, len(sources), 0
    )
    return stage, sources


if __name__ == "__main__":
    run(app)
