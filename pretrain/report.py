"""What a run has learned from its images: ``python -m pretrain.report --model RUN --held-out SHARDS --out DIR``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image
from rich.table import Table

from parsers.command import InputError, console, pluralize, run
from pretrain.options import ConfigOption
from pretrain.recipe import OBJECTIVES, PretrainRecipe, ShownImage
from pretrain.training.settings import find_recipe
from shards.inspect.page import LEGEND, SampleDrawer, make_document
from shards.pictures import find_pictures, to_rgb
from shards.reader import ShardSet
from shards.storage.files import write_atomic, write_indented_json

if TYPE_CHECKING:
    from pretrain.evaluation import Result

PAGE, LOSSES = "index.html", "losses.png"
SHOWN = 20
"""so many images are on the page"""
_STYLE = """
table{border-collapse:collapse;display:block;margin:.6em 0;overflow-x:auto}
td,th{padding:2px 14px 2px 0;text-align:right}
td:first-child,th:first-child{text-align:left}
header img{max-width:100%}
"""
COLOURS = {"object": "#0891b2", "attribute": "#16a34a", "relation": "#c026d3"}

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil report --model runs/demo --config demo --held-out data/demo/shards/val "
    "--text-only runs/demo-text --images data/demo/toyworld/images --out runs/demo/report"
)
def main(
    model: Annotated[Path, typer.Option(help="The run of pretraining that wrote the model.")],
    held_out: Annotated[Path, typer.Option(help="Folder of shards that the run has not seen.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    config: ConfigOption,
    text_only: Annotated[Path | None, typer.Option(help="A run of the same recipe without images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, of which one is drawn.")] = None,
) -> None:
    """Compare a run with guessing, with itself when it is shown other images, and with a run on text alone."""
    # Imported late, here and below: PyTorch takes seconds, and --help should answer at once.
    from pretrain.evaluation import format_share

    out.mkdir(parents=True, exist_ok=True)
    shards, recipe = ShardSet(held_out), PretrainRecipe.load(find_recipe(config, "pretrain"), [])
    scores = {
        "own image": _score(model, shards, recipe, "own"),
        "other image": _score(model, shards, recipe, "other"),
    }
    if text_only is not None:
        scores["text only"] = _score(text_only, shards, recipe, "none")
    table = Table(
        "objective", "loss: first", "last", "accuracy: guessing", *scores, title="Held-out images", title_justify="left"
    )
    curves = _curves(model)
    rows = [
        [
            name,
            f"{curves[name][1][0]:.3f}",
            f"{curves[name][1][-1]:.3f}",
            format_share(scores["own image"][name].guess_accuracy),
            *(format_share(found[name].accuracy if name in found else None) for found in scores.values()),
        ]
        for name in OBJECTIVES
        if name in scores["own image"] and name in curves
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    record = {mode: {name: r.to_dict() for name, r in found.items()} for mode, found in scores.items()}
    write_indented_json(record, out / "report.json")
    _plot_losses(curves, out / LOSSES)
    written = [out / "report.json", out / LOSSES]
    if images is not None:
        _draw_scene(shards, images, out / "scene.png")
        written.append(out / "scene.png")
    page = _make_page(shards, images, [str(column.header) for column in table.columns], rows)
    write_atomic(out / PAGE, page.encode())
    written.append(out / PAGE)
    console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)


def _score(trained: Path, shards: ShardSet, recipe: PretrainRecipe, images: ShownImage) -> dict[str, Result]:
    import torch

    from pretrain.evaluation import evaluate
    from pretrain.model.folder import load_model
    from pretrain.training.distributed import DistributedContext

    alone = DistributedContext(0, 1, torch.device("cpu"))
    return evaluate(load_model(trained / "model"), shards, recipe, images=images, world=alone)


def _curves(trained: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Returns the steps and losses of each objective."""
    try:
        lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{trained / 'metrics.jsonl'}: cannot be read: {error}") from error
    found = {
        name: [(line["step"], line[key]) for line in lines if (key := f"loss/{name}") in line] for name in OBJECTIVES
    }
    return {name: ([s for s, _ in points], [v for _, v in points]) for name, points in found.items() if points}


def _make_page(shards: ShardSet, images: Path | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Makes a page of the table, the losses and some held-out images with their captions and graphs.

    Args:
        shards: the held-out shards.
        images: the folder of the pictures. Without it no held-out images are shown.
        columns: the header of the table.
        rows: of the table, a row for each objective.
    """
    table = "".join(
        f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in row)}</tr>"
        for cell, some in (("th", [columns]), ("td", rows))
        for row in some
    )
    title = "What the images have taught"
    header = (
        f"<h1>{title}</h1><p>Words and regions of {pluralize(len(shards), 'image')} that the model has not seen were "
        "hidden, and the model named them: with the image of the caption, with another image, and as a model of the "
        "same recipe without images. What is read off the image is right with the own image alone.</p>"
        f'<table>{table}</table><img alt="losses by step" src="{LOSSES}">'
    )
    return make_document(title, header, "" if images is None else _draw_samples(shards, images), _STYLE)


def _draw_samples(shards: ShardSet, images: Path) -> str:
    places = list(islice(shards, SHOWN))
    drawer = SampleDrawer(shards, places, images)
    cards = "".join(
        f"<article>{drawer.draw_image(place)}<div>{drawer.draw_captions(place)}</div></article>\n" for place in places
    )
    return f"<header><h1>{pluralize(len(places), 'held-out image')} and their scene graphs</h1>{LEGEND}</header>{cards}"


def _plot_losses(curves: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    from matplotlib.figure import Figure  # late: it takes a second

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, (steps, losses) in curves.items():
        axes.plot(steps, losses, label=name)
    axes.set(xlabel="step", ylabel="loss", title="Pretraining losses", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _draw_scene(shards: ShardSet, images: Path, path: Path) -> None:
    """Draws the boxes of a picture and the graph of one of its captions.

    Takes the first held-out picture that is in the folder and has a caption with a relation.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    pictures = find_pictures(images, (shards.record(shard, row)[0] for shard, row in shards))
    for shard, row in shards:
        image_id, width, height, captions = shards.record(shard, row)
        related = [caption for caption in captions if caption.graph.relations]
        if related and image_id in pictures:
            break
    else:
        raise InputError(f"{images}: holds no picture of a held-out image whose captions have a relation")
    with Image.open(pictures[image_id]) as file:
        picture = to_rgb(file)
    graph = max(related, key=lambda caption: len(caption.graph.attributes)).graph
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(picture, extent=(0, width, height, 0))
    for x1, y1, x2, y2 in shards.regions(shard, row).boxes.tolist():
        left.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.5))
    left.set_axis_off()
    right.set_axis_off()
    right.set(xlim=(0, 1), ylim=(0, 1))
    figure.suptitle(graph.caption)
    places = [
        (0.25 if i % 2 == 0 else 0.75, 0.85 - 0.7 * i / max(1, len(graph.objects) - 1))
        for i in range(len(graph.objects))
    ]
    for relation in graph.relations:
        start, end = places[relation.subject], places[relation.object]
        right.annotate(
            "", end, start, arrowprops={"arrowstyle": "->", "color": COLOURS["relation"], "shrinkA": 22, "shrinkB": 22}
        )
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        right.text(
            *middle, relation.lemma, color=COLOURS["relation"], ha="center", va="center", backgroundcolor="white"
        )
    for number, (item, place) in enumerate(zip(graph.objects, places, strict=True)):
        attributes = ", ".join(a.lemma for a in graph.attributes if a.object == number)
        box = {"boxstyle": "round,pad=0.5", "facecolor": COLOURS["object"], "edgecolor": "none"}
        right.text(*place, item.lemma, color="white", ha="center", va="center", bbox=box)
        right.text(place[0], place[1] - 0.12, attributes, color=COLOURS["attribute"], ha="center", va="center")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(app)
