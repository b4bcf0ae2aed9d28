"""The command ``python -m shards.card data/shards``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parsers.command import InputError, progress, run, say
from shards.card.dataset_card import CARD, FILL_IN, PLOTS, make_card
from shards.inspect.summary import summarise_set
from shards.manifest import find_sets
from shards.reader import ShardSet
from shards.storage.files import write_atomic

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil card data/shards")
def main(
    location: Annotated[
        Path,
        typer.Argument(metavar="SHARDS", help="The folder that pipeline.pack wrote, or one set of shards."),
    ],
    num_images: Annotated[
        int, typer.Option(min=1, help="Count the nodes of this many images of each set, spread evenly over it.")
    ] = 10_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the README.md that is there.")] = False,
) -> None:
    """Write the card of a data set: a README.md with the head that a hub reads, counts and plots."""
    from shards.card.plots import draw_plots  # imported late, because Matplotlib takes a second

    sets = {name: ShardSet(folder) for name, folder in find_sets(location).items()}
    if (location / CARD).exists() and not overwrite:
        raise InputError(f"{location / CARD} is there already; add --overwrite to replace it, with what was filled in")
    with progress("read", sum(min(num_images, len(shards)) for shards in sets.values()), "image") as advance:
        summaries = {name: summarise_set(shards, num_images, advance) for name, shards in sets.items()}
    text = make_card(location.resolve().name, sets, summaries)
    write_atomic(location / PLOTS, draw_plots(summaries))
    write_atomic(location / CARD, text.encode())
    say(f"{location / CARD}: fill in what is marked {FILL_IN!r} before you publish it")


if __name__ == "__main__":
    run(app)
