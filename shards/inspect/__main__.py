"""Shows what is in a set of shards: ``python -m shards.inspect summary|head|show|verify|diff|html SHARDS``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from parsers.command import InputError, console, pluralize, progress, run, say
from shards.inspect.diff import compare_sets
from shards.inspect.page import label_nodes, make_page
from shards.inspect.summary import Histogram, spread, summarise_set
from shards.inspect.verify import repair_index as make_index_anew
from shards.inspect.verify import verify_set as verify_shards
from shards.nodes import list_nodes, list_spans
from shards.reader import ShardSet
from shards.regions.table import label_regions
from shards.schema import KINDS, Caption, Masks, image_id_of_key
from shards.storage.files import write_atomic

STYLES = {"object": "bold cyan", "attribute": "bold green", "relation": "bold magenta"}

CHANGED = "bold red underline"
"""how the changed words of false captions look"""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show what is in a set of shards, and verify it.")
Location = Annotated[
    str, typer.Argument(metavar="SHARDS", help="A folder with a manifest.json, e.g. data/shards/train, or its URL.")
]


@app.command(epilog="Example: ernie-vil inspect summary data/shards/train")
def summary(
    location: Location,
    num_images: Annotated[
        int, typer.Option(min=1, help="Count the nodes of this many images, spread evenly over the set.")
    ] = 10_000,
    top: Annotated[int, typer.Option(min=1, help="Show this many of the most frequent names of each kind.")] = 10,
) -> None:
    """Print how many images, captions, boxes and nodes there are, and how they are distributed."""
    shards = ShardSet(location)
    with progress("read", min(num_images, len(shards)), "image") as advance:
        found = summarise_set(shards, num_images, advance)
    manifest, totals = shards.manifest, shards.manifest.totals
    size = sum(shard.bytes for shard in manifest.shards)
    classes = manifest.classes
    table = Table(title=location, title_justify="left", show_header=False)
    table.add_row("images", f"{totals.samples:,} in {pluralize(len(manifest.shards), 'shard')}, {size / 1e6:,.1f} MB")
    table.add_row("captions", f"{totals.captions:,}")
    if totals.negatives:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in found.negatives.items() if count)
        table.add_row("false captions", f"{totals.negatives:,}: {kinds}")
    table.add_row("captions of an image", _shape(found.captions))
    table.add_row("word pieces of a caption", _shape(found.tokens))
    table.add_row("boxes of an image", _shape(found.boxes))
    once, each = found.feature_bytes, found.feature_bytes_per_caption
    table.add_row(
        "features",
        f"{manifest.feature_size} float16 a box, {once / 1e6:,.1f} MB; "
        f"{each / 1e6:,.1f} MB if stored once a caption ({each / max(once, 1):.1f} times as much)",
    )
    table.add_row("classes", f"{classes.kind}" + (f", {classes.count:,}" if classes.count else ""))
    table.add_row("vocabulary", f"{manifest.tokenizer.size:,} word pieces")
    table.add_row("parser", f"{manifest.parser.name} {manifest.parser.version}")
    table.add_row("checksum", manifest.checksum)
    console.print(table)
    table = Table(
        title=f"Nodes of a caption, of {pluralize(found.images_read, 'image')}", title_justify="left", show_header=False
    )
    for kind in KINDS:
        count = getattr(totals, f"{kind}s")
        most = ", ".join(f"{lemma} ({n:,})" for lemma, n in found.lemmas[kind].most_common(top))
        table.add_row(Text(f"{kind}s", STYLES[kind]), f"{count:,} in all")
        table.add_row("", _shape(found.nodes[kind]))
        table.add_row("", Text(most))
        if kind == "object" and found.mentions.bounds[1] > 1:
            table.add_row("mentions of an object", _shape(found.mentions))
    console.print(table)


@app.command(epilog="Example: ernie-vil inspect head data/shards/train -n 3")
def head(
    location: Location, n: Annotated[int, typer.Option("--num-images", "-n", min=1, help="List this many images.")] = 5
) -> None:
    """List the first images with their captions."""
    shards = ShardSet(location)
    for _, (shard, row) in zip(range(n), shards, strict=False):
        image_id, width, height, captions = shards.record(shard, row)
        boxes = shards.shard(shard).num_boxes[row]
        size = f"{width} x {height}, {pluralize(int(boxes), 'box')}, {pluralize(len(captions), 'caption')}"
        console.print(Text(image_id, "bold"), size, sep="  ")
        for caption in captions:
            console.print(Text("  ").append_text(colour(caption)))


@app.command(epilog="Example: ernie-vil inspect show data/shards/train 285")
def show(
    location: Location, key: Annotated[str, typer.Argument(help="The image id, or the key of the sample.")]
) -> None:
    """Print the captions of an image, their nodes with their word pieces, and the false captions."""
    shards = ShardSet(location)
    shard, row = shards.find(key)
    image_id, width, height, captions = shards.record(shard, row)
    masks, regions = shards.masks(shard, row), shards.regions(shard, row)
    negatives = shards.negatives(shard, row)
    vocabulary = shards.vocabulary
    size = f"{width} x {height}, {pluralize(len(regions.boxes), 'box')}"
    console.print(Text(image_id, "bold"), size, sep="  ")
    best = [f"{label} {share:.2f}" for label, share in label_regions(regions, shards.manifest.classes)]
    if best and shards.manifest.classes.names:
        console.print(Text("regions: " + ", ".join(best), style="dim"))
    for number, caption in enumerate(captions):
        console.print()
        console.print(colour(caption))
        console.print(_nodes_table(caption, number, masks, vocabulary))
        for negative in (one for one in negatives if one.caption == number):
            text = Text(negative.text)
            for span in negative.spans:
                text.stylize(CHANGED, span.start, span.end)
            console.print(Text(f"  {negative.kind}  ", "dim").append_text(text))


@app.command(epilog="Example: ernie-vil inspect verify data/shards/train --workers 8")
def verify(
    location: Location,
    workers: Annotated[int, typer.Option(min=1, help="Check with this many processes.")] = os.cpu_count() or 1,
    repair_index: Annotated[
        bool, typer.Option("--repair-index", help="First make index.parquet anew from the tars, if they are sound.")
    ] = False,
) -> None:
    """Check every byte, and name the first bad sample of each shard. The exit code is 1 if anything is wrong."""
    if repair_index:
        repaired = make_index_anew(Path(location))
        say(f"{location}: the index {'was made anew' if repaired else 'is as it should be'}")
    shards = ShardSet(location, check_tars=False)
    tars, count = len(shards.manifest.shards), 0
    with progress("verify", tars, "shard") as advance:
        for _, problems in verify_shards(shards, workers=min(workers, max(1, tars))):
            for problem in problems:
                console.print(Text(problem.where, "bold red"), problem.what, sep=": ", soft_wrap=True)
            count += len(problems)
            advance(1)
    if count:
        raise InputError(f"{location}: {pluralize(count, 'problem')}")
    say(f"{location}: {pluralize(tars, 'shard')}, {pluralize(len(shards), 'image')}, all sound")


@app.command(epilog="Example: ernie-vil inspect diff data/shards/train data/shards-2/train")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A set of shards.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """List the images whose captions, graphs or features differ. The exit code is 1 if any do."""
    a, b = ShardSet(first), ShardSet(second)
    with progress("compare", len(a.manifest.shards), "shard") as advance:
        difference = compare_sets(a, b, advance)
    if not difference:
        say(f"{first} and {second}: no difference in {pluralize(len(a), 'image')}")
        return
    for name, (old, new) in difference.settings.items():
        say(f"{name}: {json.dumps(old)} in A, {json.dumps(new)} in B")
    table = Table("", "images", "for example")
    groups = {"only in A": difference.removed, "only in B": difference.added, **difference.changed}
    for name, keys in groups.items():
        if keys:
            some = ", ".join(image_id_of_key(key) for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
            table.add_row(name, f"{len(keys):,}", Text(some))
    console.print(table)
    raise typer.Exit(1)


@app.command(epilog="Example: ernie-vil inspect html data/shards/train --images photos --out page.html")
def html(
    location: Location,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the page to this file.")],
    n: Annotated[
        int, typer.Option("--num-images", "-n", min=1, help="Show this many images, spread evenly over the set.")
    ] = 100,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with the pictures, each named by its image id.", file_okay=False),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The regions folder that was packed. It adds the attributes of the boxes.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Write one web page that shows images with their boxes, captions, graphs and word pieces."""
    shards = ShardSet(location)
    page = make_page(shards, spread(shards, n), images, regions).encode()
    write_atomic(out, page)
    say(f"{out}: {pluralize(min(n, len(shards)), 'image')}, {len(page) / 1e6:.1f} MB")


def colour(caption: Caption) -> Text:
    """A caption whose words have the colours of their nodes."""
    text, nodes = Text(caption.text), list_nodes(caption.graph)
    for number, span in list_spans(caption.graph):
        text.stylize(STYLES[KINDS[nodes[number].kind]], span.start, span.end)
    return text


def _nodes_table(caption: Caption, number: int, masks: Masks, vocabulary: list[str]) -> Table:
    pieces = masks.token_ids[masks.token_offsets[number] : masks.token_offsets[number + 1]]
    table = Table("kind", "node", "word pieces", box=None, padding=(0, 2, 0, 2))
    for label, node in zip(label_nodes(caption.graph), masks.nodes(number), strict=True):
        kind = KINDS[masks.node_kind[node]]
        covered = " … ".join(" ".join(vocabulary[piece] for piece in pieces[run]) for run in masks.runs(node))
        table.add_row(Text(kind, STYLES[kind]), Text(label), Text(covered or "(no words: never masked)"))
    return table


def _shape(histogram: Histogram) -> str:
    low, high = histogram.bounds
    return f"{low} to {high}, median {histogram.median}, mean {histogram.mean:.1f}\n{histogram.bars()}"


if __name__ == "__main__":
    run(app)
