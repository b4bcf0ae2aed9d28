"""The command ``python -m pipeline.toyworld --out data/toyworld``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import console, progress, run
from pipeline.toyworld.write import ToyWorld, write_world
from shards.storage.lock import LOCK, lock_folder

DEFAULT = ToyWorld()
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil toyworld --out data/toyworld --num-images 2000 --seed 1")
def main(
    out: Annotated[
        Path, typer.Option(help="The folder for the world. It appears when everything is done.", file_okay=False)
    ],
    num_images: Annotated[int, typer.Option(min=1, help="The number of pictures.")] = DEFAULT.images,
    seed: Annotated[
        int, typer.Option(min=0, help="The seed. The same seed gives the same bytes on the same kind of processor.")
    ] = DEFAULT.seed,
    num_captions: Annotated[
        int, typer.Option(min=1, max=10, help="The number of captions of each picture.")
    ] = DEFAULT.captions,
    feature_size: Annotated[int, typer.Option(min=32, help="The size of a region feature.")] = DEFAULT.feature_size,
    min_things: Annotated[int, typer.Option(min=2, max=6, help="The fewest things in a picture.")] = DEFAULT.things[0],
    max_things: Annotated[int, typer.Option(min=2, max=6, help="The most things in a picture.")] = DEFAULT.things[1],
    tasks: Annotated[bool, typer.Option("--tasks", help="Make VQA, VCR, retrieval and RefCOCO+ data as well.")] = False,
    apart: Annotated[
        bool, typer.Option("--apart", help="Let no thing touch or hide another: then words do not tell how they stand.")
    ] = False,
    suite: Annotated[
        bool,
        typer.Option(
            "--suite", help="Make pictures in twos, and captions that are true of one and false of the other."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="The number of worker processes.")] = os.cpu_count() or 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the world in the folder.")] = False,
) -> None:
    """Make pictures of toys with captions, regions and a vocabulary: data to try the whole chain on."""
    started = time.monotonic()
    out = out.resolve()
    if min_things > max_things:
        raise typer.BadParameter(f"--min-things {min_things} is more than --max-things {max_things}")
    if suite and num_images % 2:
        raise typer.BadParameter(f"--num-images {num_images} is odd, but the pictures of --suite come in twos")
    world = ToyWorld(num_images, seed, num_captions, feature_size, (min_things, max_things), tasks, apart, suite)
    with lock_folder(out):
        if any(path.name != LOCK for path in out.iterdir()) and not overwrite:
            raise typer.BadParameter(f"--out {out} is not empty; choose another folder or add --overwrite")
        try:
            with progress("Making pictures", num_images, "image") as advance:
                totals = write_world(world, out, workers=workers, progress=advance)
        except FileExistsError as error:
            raise typer.BadParameter(f"--out {error}") from error
    table = Table(title=f"Toy world, seed {seed}", show_header=False)
    for name, count in (
        ("pictures", totals.images),
        ("captions", totals.captions),
        ("things", totals.things),
        ("regions", totals.regions),
        ("word pieces", totals.pieces),
    ):
        table.add_row(name, f"{count:,}")
    table.add_row("seconds", f"{time.monotonic() - started:.1f}")
    console.print(table)
    console.print(f"Written to {out}", soft_wrap=True)


if __name__ == "__main__":
    run(app)
