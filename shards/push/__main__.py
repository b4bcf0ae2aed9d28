"""The command ``python -m shards.push data/shards s3://bucket/name``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parsers.command import pluralize, progress, run, say
from shards.card.dataset_card import CARD, FILL_IN
from shards.push.stores import open_store
from shards.push.transfer import list_files, push
from shards.storage.files import read_text_lines

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil push data/shards s3://bucket/cc3m-graphs")
def main(
    location: Annotated[
        Path,
        typer.Argument(metavar="SHARDS", help="The folder that pipeline.pack wrote, or one set of shards."),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="Where to: s3://BUCKET/PATH or whatever fsspec reaches, hf://datasets/USER/NAME, a folder.",
        ),
    ],
) -> None:
    """Copy a data set to an object store, the hub or a folder, and verify it there."""
    files = list_files(location)
    store = open_store(destination)
    with progress("push", len(files), "file") as advance:
        report = push(files, store, advance)
    size = sum(file.size for file in files)
    say(
        f"{destination}: {pluralize(len(files), 'file')}, {size / 1e6:,.1f} MB, each with the checksum that it should "
        f"have; {report.copied:,} copied now"
    )
    if report.card_differs:
        say(f"{CARD} was there already and stays as it is; it differs from {location / CARD}")
    if any(file.name == CARD for file in files) and any(FILL_IN in line for line in read_text_lines(location / CARD)):
        say(f"{location / CARD} still has fields marked {FILL_IN!r}")


if __name__ == "__main__":
    run(app)
