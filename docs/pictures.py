"""Draws the pictures of the concepts, and with ``--photo`` and ``--regions`` the README's: ``python docs/pictures.py``.

Graphs and masks are computed by the code that the pictures explain.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import parsers
from parsers.command import run
from parsers.graph import SceneGraph
from pipeline.pack.word_pieces import make_masks
from pretrain.data.masking import SpecialTokens, mask_text
from pretrain.recipe import Masking
from shards.nodes import list_nodes
from shards.schema import ATTRIBUTE, KINDS, RELATION, Caption
from shards.vocabulary import make_tokenizer

IMAGES = Path(__file__).parent / "images"
COLOURS = {"object": "#0891b2", "attribute": "#16a34a", "relation": "#c026d3", "word": "#6b7280"}
CAPTION = "A woman in a red jacket skiing down a slope"
rcParams.update({"svg.hashsalt": "ernie-vil", "font.size": 10})
app = typer.Typer(add_completion=False)


def draw_graph(axes: Any, graph: SceneGraph) -> None:
    """Draws a caption, above each word its node, and arcs for the relations."""
    width = len(graph.caption)
    axes.set(xlim=(-1, width + 1), ylim=(-0.6, 4.2))
    axes.set_axis_off()
    for place, letter in enumerate(graph.caption):
        axes.text(place + 0.5, 0, letter, ha="center", va="center", family="monospace", fontsize=11)
    middles = []
    for node in list_nodes(graph):
        spans = node.spans
        middle = (spans[0].start + spans[-1].end) / 2 if spans else width / 2
        middles.append(middle)
        colour = COLOURS[KINDS[node.kind]]
        for span in spans:
            axes.add_patch(Rectangle((span.start, -0.4), span.end - span.start, 0.8, color=colour, alpha=0.25, lw=0))
        height = {ATTRIBUTE: 1.0, RELATION: 3.2}.get(node.kind, 2.0)
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
        if node.kind == RELATION:
            middle = sum(middles[i] for i in node.arguments) / 2
        for argument in node.arguments:
            end = (middles[argument], 2.0)
            arrow = {"arrowstyle": "-", "color": colour, "shrinkA": 12, "shrinkB": 12, "linewidth": 1.4}
            axes.annotate("", end, (middle, height), arrowprops=arrow)
        axes.text(middle, height, node.lemma, color="white", ha="center", va="center", bbox=box)


def draw_scene_graph(graph: SceneGraph) -> Figure:
    """Draws the graph alone, with the names of the kinds."""
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    axes = figure.subplots()
    draw_graph(axes, graph)
    for kind, height in (("attribute", 1.0), ("object", 2.0), ("relation", 3.2)):
        axes.text(-1, height, kind, color=COLOURS[kind], ha="left", va="center")
    return figure


def draw_masks(graph: SceneGraph) -> Figure:
    """Draws what the model reads in some draws; hidden pieces are filled with the colour of their kind."""
    words = graph.caption.lower().split()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    masks = make_masks([Caption(None, graph.caption, graph)], make_tokenizer(vocabulary))
    special = SpecialTokens.of(vocabulary)
    draws = []
    for seed in range(100):
        text = mask_text(
            masks, 0, matched=True, max_text=32, settings=Masking(), special=special, random=np.random.default_rng(seed)
        )
        if len(text.labels) and all(text.token_ids[place] == special.mask for place in text.targets):
            draws.append(text)
    draws = list({tuple(text.targets.tolist()): text for text in draws}.values())[:4]
    figure = Figure(figsize=(8, 0.5 * len(draws) + 0.3), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, len(words) + 2), ylim=(-len(draws), 0.1))
    axes.set_axis_off()
    for row, text in enumerate(draws):
        hidden = dict(zip(text.targets.tolist(), text.kinds.tolist(), strict=True))
        for place, token in enumerate(text.token_ids.tolist()):
            kind = [*KINDS, "word"][hidden[place]] if place in hidden else None
            colour = "#e5e7eb" if kind is None else COLOURS[kind]
            axes.add_patch(Rectangle((place + 0.04, -row - 0.85), 0.92, 0.7, color=colour, lw=0))
            axes.text(
                place + 0.5, -row - 0.5, vocabulary[token], color="black" if kind is None else "white",
                ha="center", va="center", fontsize=9,
            )  # fmt: skip
    return figure


def draw_shard() -> Figure:
    """Draws the members of a sample as they lie in a tar, and what the index knows of them; widths are not to scale."""
    members = {
        "json": 1.5,
        "boxes.npy": 1.4,
        "features.npy\nfloat16 [36, 2048]": 4.2,
        "class_ids.npy": 1.9,
        "class_probs.npy": 2.2,
        "masks.npz": 1.8,
    }
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.2, 13.2), ylim=(-2.2, 2.2))
    for start, name in ((0.0, "image 285"), (4.4, "image 724"), (8.8, "image 785")):
        axes.add_patch(Rectangle((start, 1), 4.2, 0.7, color="#bae6fd" if start == 4.4 else "#e5e7eb", lw=0))
        axes.text(start + 2.1, 1.35, name, ha="center", va="center")
    axes.text(0, 1.9, "shard-00000.tar: a sample is an image", fontsize=9)
    for top, bottom in ((4.4, 0.0), (8.6, 13.0)):
        axes.plot([top, bottom], [1, 0.35], color="#0891b2", linewidth=1)
    place = 0.0
    for name, width in members.items():
        axes.add_patch(Rectangle((place + 0.03, -0.45), width - 0.06, 0.8, color="#bae6fd", lw=0))
        axes.text(place + width / 2, -0.05, name, ha="center", va="center", fontsize=8)
        axes.plot([place + 0.03] * 2, [-0.45, -1.1], color="#c026d3", linewidth=1)
        place += width
    axes.add_patch(Rectangle((0, -1.9), place, 0.8, color="#f5d0fe", lw=0))
    text = "index.parquet: the offset and size of each member, boxes, word pieces of each caption, crc32"
    axes.text(place / 2, -1.5, text, ha="center", va="center", fontsize=9)
    return figure


def draw_batch_plan() -> Figure:
    """Draws the example of `pretrain.data.order`: 50 samples in blocks from 0, 20 and 40, and batches of 8."""
    figure = Figure(figsize=(8, 2.3), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-7, 50.5), ylim=(-3.1, 1))
    rows = {
        "blocks": [(0, 20), (20, 40), (40, 50)],
        "windows": [(0, 16), (16, 40), (40, 50)],
        "batches": [(start, min(start + 8, 50)) for start in range(0, 50, 8)],
    }
    colours = ("#bae6fd", "#f5d0fe", "#bbf7d0")
    for row, (name, parts) in enumerate(rows.items()):
        axes.text(-7, -row * 0.85 + 0.3, name, va="center")
        for number, (start, end) in enumerate(parts):
            window = number if name != "batches" else sum(start >= first for first, _ in rows["windows"]) - 1
            colour = "#e5e7eb" if name == "blocks" else colours[window]
            axes.add_patch(Rectangle((start + 0.1, -row * 0.85), end - start - 0.2, 0.65, color=colour, lw=0))
            axes.text((start + end) / 2, -row * 0.85 + 0.32, f"{start}–{end - 1}", ha="center", va="center", fontsize=8)
    axes.text(-7, -2.4, "ranks", va="center")
    for rank in range(2):
        for start in (16, 24, 32):
            axes.add_patch(Rectangle((start + 0.1 + 4 * rank, -2.7), 3.8, 0.65, color="#f5d0fe", lw=0))
            axes.text(start + 4 * rank + 2, -2.38, f"{rank}", ha="center", va="center", fontsize=8)
    return figure


def draw_photo(photo: Path, regions: Path, graph: SceneGraph) -> Figure:
    """Draws a photo with the regions that a detector is sure of, and the graph of its caption.

    Args:
        photo: the picture.
        regions: a ``.npz`` of ViLBERT's layout: boxes ``bbox`` float32 [n, 4], ``cls_prob`` float32 [n, classes], the
            background first.
        graph: of the caption.
    """
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.1))
    with Image.open(photo) as file:
        left.imshow(file.convert("RGB"))
    left.set_axis_off()
    with np.load(regions) as found:
        sure = found["cls_prob"][:, 1:].max(1) > 0.3
        for x1, y1, x2, y2 in found["bbox"][sure].tolist():
            left.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="#facc15", linewidth=1.6))
    draw_graph(right, graph)
    return figure


def save(figure: Figure, name: str) -> None:
    """Writes a picture with the same bytes every time."""
    metadata = {"Date": None} if name.endswith(".svg") else {"Software": None}
    figure.savefig(IMAGES / name, dpi=110, metadata=metadata if not name.endswith(".jpg") else None)


@app.command()
def main(
    photo: Annotated[Path | None, typer.Option(help="The photo of the README.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Its regions.")] = None,
) -> None:
    """Draw the pictures."""
    (graph,) = parsers.get("neural").parse([CAPTION])
    save(draw_scene_graph(graph), "scene-graph.svg")
    save(draw_masks(graph), "masks.svg")
    save(draw_shard(), "shard.svg")
    save(draw_batch_plan(), "batch-plan.svg")
    if photo is not None and regions is not None:
        save(draw_photo(photo, regions, graph), "photo.jpg")


if __name__ == "__main__":
    run(app)
