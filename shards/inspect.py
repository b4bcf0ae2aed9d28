"""Looks into shards: ``python -m shards.inspect summary|head|show|verify SHARDS``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from shards.console import console, progress, run
from shards.errors import InputError
from shards.reader import ShardSet
from shards.schema import KINDS, Caption, Masks
from shards.verify import repair_index as make_index_anew
from shards.verify import verify as verify_shards

STYLES = {"object": "bold cyan", "attribute": "bold green", "relation": "bold magenta"}

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Location = Annotated[
    str, typer.Argument(metavar="SHARDS", help="A folder with a manifest.json, e.g. data/shards/train, or its URL.")
]


@app.command(epilog="Example: python -m shards.inspect summary data/shards/train")
def summary(location: Location) -> None:
    """Print what the manifest says, and how much of it there is per image and caption."""
    shards = ShardSet(location)
    manifest, totals = shards.manifest, shards.manifest.totals
    size = sum(shard.bytes for shard in manifest.shards)
    classes = manifest.classes
    table = Table(title=location, title_justify="left", show_header=False)
    table.add_row("images", f"{totals.samples:,} in {len(manifest.shards):,} shards, {size / 1e6:,.1f} MB")
    table.add_row("captions", f"{totals.captions:,} ({totals.captions / max(totals.samples, 1):.2f} an image)")
    table.add_row("word pieces", f"{totals.tokens:,} ({totals.tokens / max(totals.captions, 1):.1f} a caption)")
    for kind in KINDS:
        count = getattr(totals, f"{kind}s")
        table.add_row(Text(f"{kind}s", STYLES[kind]), f"{count:,} ({count / max(totals.captions, 1):.2f} a caption)")
    table.add_row("boxes", f"{totals.boxes:,} ({totals.boxes / max(totals.samples, 1):.1f} an image)")
    table.add_row("features", f"{manifest.feature_size} float16 a box")
    table.add_row("classes", f"{classes.kind}" + (f", {classes.count:,}" if classes.count else ""))
    table.add_row("vocabulary", f"{manifest.tokenizer.size:,} word pieces")
    table.add_row("parser", f"{manifest.parser.name} {manifest.parser.version}")
    table.add_row("checksum", manifest.checksum)
    console.print(table)


@app.command(epilog="Example: python -m shards.inspect head data/shards/train -n 3")
def head(location: Location, n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 5) -> None:
    """List the first images with their captions."""
    shards = ShardSet(location)
    for _, (shard, row) in zip(range(n), shards, strict=False):
        image_id, width, height, captions = shards.record(shard, row)
        boxes = shards.shard(shard).num_boxes[row]
        console.print(f"[bold]{escape(image_id)}[/]  {width} x {height}, {boxes} boxes, {len(captions)} captions")
        for caption in captions:
            console.print(Text("  ").append_text(colour(caption)))


@app.command(epilog="Example: python -m shards.inspect show data/shards/train 285")
def show(location: Location, key: Annotated[str, typer.Argument(help="Image id or key of the sample.")]) -> None:
    """Print an image's captions with their nodes coloured, and the word pieces of each node."""
    shards = ShardSet(location)
    shard, row = shards.find(key)
    image_id, width, height, captions = shards.record(shard, row)
    masks, regions = shards.masks(shard, row), shards.regions(shard, row)
    vocabulary = shards.vocabulary
    console.print(f"[bold]{escape(image_id)}[/]  {width} x {height}, {len(regions.boxes)} boxes")
    names = shards.manifest.classes.names
    if regions.class_ids is not None and regions.class_probs is not None and names:
        best = [f"{names[i]} {p:.2f}" for i, p in zip(regions.class_ids[:, 0], regions.class_probs[:, 0], strict=True)]
        console.print(Text("regions: " + ", ".join(best), style="dim"))
    for number, caption in enumerate(captions):
        console.print()
        console.print(colour(caption))
        console.print(_nodes_table(caption, number, masks, vocabulary))


@app.command(epilog="Example: python -m shards.inspect verify data/shards/train --workers 8")
def verify(
    location: Location,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
    repair_index: Annotated[
        bool, typer.Option("--repair-index", help="Make index.parquet anew from the tars first, where they are sound.")
    ] = False,
) -> None:
    """Check every byte; exit code 1 if anything is wrong. Of each shard the first bad sample is named."""
    if repair_index:
        repaired = make_index_anew(Path(location))
        console.print(f"{location}: {'the index was made anew' if repaired else 'the index is as it should be'}")
    shards = ShardSet.damaged(location)
    count = 0
    with progress("verify", len(shards.manifest.shards)) as advance:
        for _, problems in verify_shards(shards, workers=min(workers, max(1, len(shards.manifest.shards)))):
            for problem in problems:
                console.print(f"[bold red]{escape(problem.where)}[/]: {escape(problem.what)}", soft_wrap=True)
            count += len(problems)
            advance(1)
    if count:
        raise InputError(f"{location}: {count:,} problems")
    console.print(f"{location}: {len(shards.manifest.shards):,} shards, {len(shards):,} images, all sound")


def colour(caption: Caption) -> Text:
    """The caption with the words of its objects, attributes and relations in their colours."""
    text = Text(caption.text)
    for item in caption.graph.objects:
        text.stylize(STYLES["object"], item.span.start, item.span.end)
    for relation in caption.graph.relations:
        for span in relation.spans:
            text.stylize(STYLES["relation"], span.start, span.end)
    for attribute in caption.graph.attributes:
        text.stylize(STYLES["attribute"], attribute.span.start, attribute.span.end)
    return text


def _nodes_table(caption: Caption, number: int, masks: Masks, vocabulary: list[str]) -> Table:
    graph = caption.graph
    names = [item.lemma for item in graph.objects]
    labels = [
        *names,
        *(f"{names[a.object]} is {a.lemma}" for a in graph.attributes),
        *(f"{names[r.subject]} – {r.lemma} – {names[r.object]}" for r in graph.relations),
    ]
    pieces = masks.token_ids[masks.token_offsets[number] : masks.token_offsets[number + 1]]
    table = Table("kind", "node", "word pieces", box=None, padding=(0, 2, 0, 2))
    for label, node in zip(labels, masks.nodes(number), strict=True):
        kind = KINDS[masks.node_kind[node]]
        covered = " ".join(vocabulary[piece] for piece in pieces[masks.tokens(node)])
        table.add_row(Text(kind, STYLES[kind]), Text(label), Text(covered or "(no words: never masked)"))
    return table


if __name__ == "__main__":
    run(app)
