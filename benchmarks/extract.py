"""Pictures per second of ``pipeline.extract``, by step, beside the same network called picture by picture.

``python -m benchmarks.extract PICTURES``: one process, one thread of the network, and for the stage its threads that
decode. The contestants take turns. Seconds of the CPU tell what the work costs; what the overlap gains shows only in
those of the wall clock, and only where others leave the machine alone. Weights may be random: they take as long.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table

from benchmarks.turns import ROUNDS, Rounds, cpu, machine, others, ratio, spread, take_turns, wall
from pipeline import detectors, images
from pipeline.detectors import Detector
from pipeline.extract import HELD_BYTES, ExtractStage, Pictures, regions_info, to_row
from pipeline.images import ImageSource
from pipeline.parts import Part, Reject
from pipeline.tables import regions_table, write_table
from shards.console import console, run
from shards.errors import InputError
from shards.regions import RegionsRow

app = typer.Typer(add_completion=False)
PEER, STAGE = "picture by picture", "the stage"


@app.command(epilog="Example: python -m benchmarks.extract val2017/ --detector vg-bottom-up --weights frcnn.bin")
def main(
    folder: Annotated[Path, typer.Argument(metavar="PICTURES", help="A folder of pictures.")],
    detector: Annotated[str, typer.Option(help="Which network.")] = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    weights: Annotated[str, typer.Option(help="A file, or random.")] = "random",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the network runs.")] = "cpu",
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the network.")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of one shape in a batch, at most.")] = 8,
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 24,
    rounds: Rounds = ROUNDS,
    out: Annotated[Path | None, typer.Option(help="File for the figures (JSON).")] = None,
) -> None:
    """Time the steps of the stage."""
    torch.set_num_threads(1)
    options = {"weights": weights, "device": device, "precision": precision}
    network = detectors.get(detector, **options)
    stage, sources = make_stage(folder, detector, options, network, batch_size, count)
    pixels = [picture for picture in map(images.load, sources) if not isinstance(picture, Reject)]
    if len(pixels) < len(sources):
        raise InputError(f"{folder}: {len(sources) - len(pixels)} pictures cannot be decoded; name others")
    whole, info = stage.worker(), stage.info
    batches = list(images.by_shape(enumerate(pixels), batch_size, HELD_BYTES))
    detections = [found for picture in pixels for found in network.detect([picture])]

    def post_process(folder: Path) -> None:
        rows = [to_row(*item, info, None) for item in zip(sources, pixels, detections, strict=True)]
        with (folder / "rows.parquet").open("wb") as stream:
            table = regions_table([row for row in rows if isinstance(row, RegionsRow)])
            write_table(stream, "regions", table, info.to_metadata())

    def one_by_one(_: Path) -> None:
        for source in sources:
            picture = images.load(source)
            assert not isinstance(picture, Reject)
            to_row(source, picture, network.detect([picture])[0], info, None)

    def extract(folder: Path) -> None:
        part = Part(folder, 0)
        whole(Pictures(sources, [], 0), part)
        part.complete()

    contestants: dict[str, Callable[[Path], object]] = {
        "decode": lambda _: [images.load(source) for source in sources],
        "network": lambda _: [network.detect([picture for _, picture in batch]) for batch in batches],
        "post-processing": post_process,
        PEER: one_by_one,
        STAGE: extract,
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
    for name, taken in turns.items():
        by_cpu, by_clock = ratio(cpu(taken), cpu(turns[PEER])), ratio(wall(taken), wall(turns[PEER]))
        table.add_row(
            name,
            f"{1000 * spread(cpu(taken)).median / len(sources):,.1f}",
            f"× {by_cpu:.2f}" if name == STAGE else "",
            f"{1000 * spread(wall(taken)).median / len(sources):,.1f}",
            f"× {by_clock:.2f}" if name == STAGE else "",
            others(taken),
        )
    console.print(table)
    if out is not None:
        record = {name: spread(cpu(taken)).median / len(sources) for name, taken in turns.items()}
        out.write_text(json.dumps(record, indent=1) + "\n")


def make_stage(
    folder: Path, detector: str, options: Mapping[str, Any], network: Detector, batch_size: int, count: int
) -> tuple[ExtractStage, list[ImageSource]]:
    """The stage for a folder of pictures and the first ``count`` of them; ``network`` is the detector, built."""
    found, _ = images.recognise(folder, "auto", None)
    sources = [source for source in found.sources() if isinstance(source, ImageSource)][:count]
    info = regions_info(network, None)
    stage = ExtractStage(
        (found,), detector, tuple(options.items()), network.version, info, None, None, batch_size, len(sources), 0
    )
    return stage, sources


if __name__ == "__main__":
    run(app)
