"""The command ``python -m pipeline.pack --graphs DIR --regions DIR --tokenizer VOCAB --out DIR``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import console, pluralize, run, say
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress, Workers
from pipeline.files import location
from pipeline.graph_table import OF_SPLIT
from pipeline.pack.accounts import Outcome, read_accounts
from pipeline.pack.image_ids import read_id_lists
from pipeline.pack.packing import PIECES, UNKNOWN
from pipeline.pack.stage import WITHOUT_CAPTIONS, WITHOUT_REGIONS, PackStage, propose_coco_ids
from shards.stage_folder import read_statistics
from shards.storage.files import AnyPath, read_text_lines
from shards.vocabulary import find_vocabulary, read_vocabulary

MAX_UNKNOWN = 1 / 3
"""If a larger share of the word pieces belongs to unknown words, the vocabulary is said not to fit. BERT's has 3 % of
English captions."""
app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil pack --graphs data/graphs --regions data/regions "
    "--tokenizer vocab.txt --out data/shards --held-out-share 0.05"
)
def main(
    graphs: Annotated[list[str], typer.Option(help="A folder that pipeline.parse wrote; may be repeated.")],
    regions: Annotated[
        list[str], typer.Option(help="A folder that pipeline.regions or pipeline.extract wrote; may be repeated.")
    ],
    tokenizer: Annotated[
        str, typer.Option(help="The vocabulary: a vocab.txt, the folder of a model, or a model of the hub.")
    ],
    out: Annotated[str, typer.Option(help="The folder for the shards.")],
    held_out_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Hold out this share of the images in val/.")
    ] = 0.0,
    exclude_ids: Annotated[
        list[str],
        typer.Option(help="A list of images that must not be packed, one id a line or a JSON array; may be repeated."),
    ] = [],  # noqa: B006
    allow_unmatched: Annotated[
        bool, typer.Option("--allow-unmatched", help="Pack even if a list of --exclude-ids names none of the images.")
    ] = False,
    id_map: Annotated[
        str | None,
        typer.Option(help="A Parquet table that renames images of the regions: ids in `from` become those in `to`."),
    ] = None,
    coco_ids: Annotated[
        bool,
        typer.Option(
            "--coco-ids", help="Read COCO's names of pictures as its numbers: COCO_val2014_000000000042 as 42."
        ),
    ] = False,
    negatives: Annotated[
        list[str],
        typer.Option(help="A folder that pipeline.negatives wrote of these graphs; may be repeated."),
    ] = [],  # noqa: B006
    shard_size: Annotated[int, typer.Option(min=1, help="How many images a shard holds.")] = 1_000,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Keep only the k most likely classes of each region. Without it all are kept."),
    ] = None,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Join scene graphs and regions into WebDataset shards."""
    vocabulary = find_vocabulary(tokenizer)
    read_vocabulary(vocabulary)
    folder = location(out)
    lists = tuple(location(path) for path in exclude_ids)
    stage = PackStage(
        tuple(location(path) for path in graphs),
        tuple(location(path) for path in regions),
        vocabulary,
        folder,
        held_out_share,
        shard_size,
        top_k,
        lists,
        None if id_map is None else location(id_map),
        coco_ids,
        tuple(location(path) for path in negatives),
        allow_unmatched,
    )
    report = run_stage(
        stage, folder, Engine(engine, workers, ray_address), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report("Shards", folder, report)
    _print_accounts(folder)
    _print_splits(stage.graphs)
    _print_overlaps(lists)
    pieces, unknown = report.statistics[PIECES], report.statistics[UNKNOWN]
    if unknown > MAX_UNKNOWN * pieces:
        say(
            f"{vocabulary} knows few of the words: {unknown / pieces:.0%} of {pluralize(pieces, 'word piece')} are "
            "[UNK] or parts of words that it lacks, and a model learns little from these. Is it made for such captions?"
        )


def _print_accounts(out: AnyPath) -> None:
    accounts = read_accounts(out)
    table = Table(title="What became of the input", title_justify="left")
    for column in ("", *accounts):
        table.add_column(column, justify="left" if not column else "right")
    for outcome in Outcome:
        table.add_row(outcome, *(f"{account.kinds.get(outcome, 0):,}" for account in accounts.values()))
    table.add_row("in all", *(f"{account.total:,}" for account in accounts.values()), style="bold")
    console.print(table)
    for file, meaning in ((WITHOUT_REGIONS, "captions but no regions"), (WITHOUT_CAPTIONS, "regions but no captions")):
        if ids := read_text_lines(out / file):
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            say(f"images with {meaning}: {len(ids):,}; {some} (all in {out / file})")
    if proposal := propose_coco_ids(out):
        say(f"some images have either captions or regions{proposal}")


def _print_splits(graphs: Iterable[AnyPath]) -> None:
    """Says of which splits of a benchmark the captions are."""
    for folder in graphs:
        counts = [f"{name}: {count:,}" for name, count in read_statistics(folder).items() if OF_SPLIT in name]
        if counts:
            say(f"{folder}: {'; '.join(counts)}")


def _print_overlaps(lists: tuple[AnyPath, ...]) -> None:
    ids = read_id_lists(lists)
    for a, b in combinations(ids, 2):
        if both := len(ids[a] & ids[b]):
            console.print(f"ids both in {a} and in {b}: {both:,}")


if __name__ == "__main__":
    run(app)
