"""Makes a web page of samples: pictures with their boxes, captions, scene graphs and word pieces.

The page is one file that needs no other file and no script. All text that comes from the data is escaped.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from parsers.command import InputError, pluralize
from parsers.graph import Relation, SceneGraph
from shards.nodes import list_nodes, list_spans
from shards.pictures import check_picture_file, find_pictures, open_picture, to_rgb
from shards.reader import ShardSet
from shards.regions.store import RegionStore
from shards.regions.table import RegionsInfo, label_regions
from shards.schema import ATTRIBUTE, KINDS, OBJECT, RELATION, Array, Caption, Masks, Negative, Regions
from shards.stage_folder import parts_of

LEGEND = (
    "<p>"
    + " ".join(f'<span class="{kind}">{kind}</span>' for kind in KINDS)
    + "<br>Word pieces with a colour are masked with their node, the others as single words. Dashed nodes have no "
    "words in the caption and are never masked. Words with the same small number are mentions of one object. In false "
    "captions the changed words are underlined.</p>"
)
"""HTML that says what the colours mean."""
_PICTURE_WIDTH, _PICTURE_QUALITY = 320, 60
_NAMED_BOXES = 6
"""The classes of this many boxes, the most likely ones, are always shown; those of the others when pointed at."""


def make_page(
    shards: ShardSet, places: Iterable[tuple[int, int]], images: Path | None = None, regions: Path | None = None
) -> str:
    """Makes the page of some samples.

    Args:
        shards: the set.
        places: the shard and row of each sample.
        images: a folder with the pictures, see `shards.pictures.find_pictures`.
        regions: the regions folder that was packed. It has the attributes of the boxes, which shards do not hold.

    Returns:
        HTML.

    Raises:
        ShardError: a sample is damaged.
        InputError: ``images`` holds no picture of the samples, or ``regions`` does not have their boxes.
    """
    places = list(places)
    drawer = SampleDrawer(shards, places, images, regions)
    if images is not None and places and not drawer.pictures:
        raise InputError(f"{images}: holds no picture of these images; pictures are called as their image ids")
    cards = [
        f"<article>{drawer.draw_image(place)}<div>{drawer.draw_captions(place)}</div></article>\n" for place in places
    ]
    title = f"{shards.location}: {len(cards):,} of {pluralize(len(shards), 'image')}"
    return make_document(title, f"<h1>{escape(title)}</h1>{LEGEND}", "".join(cards))


def make_document(title: str, header: str, body: str, style: str = "") -> str:
    """Makes a page of HTML. The title is a text, the rest is HTML; ``style`` adds to the style of the page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>\n{ARROW}"
        f"<header>{header}</header>\n{body}</body></html>\n"
    )


class SampleDrawer:
    """Draws the samples of a set as HTML: an image with its boxes, and its captions with their graphs."""

    def __init__(
        self,
        shards: ShardSet,
        places: Iterable[tuple[int, int]],
        images: Path | None = None,
        regions: Path | None = None,
    ) -> None:
        """Finds the pictures of the samples that will be drawn. The arguments are those of `make_page`."""
        self._shards, self._vocabulary = shards, shards.vocabulary
        self._attributes = None if regions is None else _Attributes(regions)
        names = [shards.record(*place)[0] for place in places]
        self.pictures = {} if images is None else find_pictures(images, names)

    def draw_image(self, place: tuple[int, int], note: str = "") -> str:
        """Draws the image of a sample with its boxes; ``note`` is a text that stands above its id."""
        image_id, width, height, _ = self._shards.record(*place)
        regions = self._shards.regions(*place)
        picture = _embedded(self.pictures[image_id]) if image_id in self.pictures else None
        described = () if self._attributes is None else self._attributes(image_id, regions)
        labels = label_regions(regions, self._shards.manifest.classes, *described)
        return (
            f"<figure>{draw_regions(regions, width, height, labels, picture)}<figcaption>"
            f"{f'{escape(note)}<br>' if note else ''}{escape(image_id)}<br>"
            f"{width} × {height}, {pluralize(len(regions.boxes), 'box')}</figcaption></figure>"
        )

    def draw_captions(self, place: tuple[int, int], opened: int = 0) -> str:
        """Draws the captions of a sample. Only the graph of the caption with the number ``opened`` is unfolded."""
        captions, masks = self._shards.record(*place)[3], self._shards.masks(*place)
        negatives = self._shards.negatives(*place)
        return "".join(
            f"<details{' open' if number == opened else ''}><summary>{color_caption(caption)}</summary>"
            f'<div class="graph">{draw_graph(caption.graph)}</div>'
            f"{_pieces(caption, number, masks, self._vocabulary)}"
            f"{_list_negatives([negative for negative in negatives if negative.caption == number])}</details>"
            for number, caption in enumerate(captions)
        )


# ------------------------------------------------------------------------------------------------------------ pictures


def _embedded(path: Path) -> str | None:
    """A small JPEG of a picture, as a data URL; None if the picture cannot be read."""
    try:
        check_picture_file(path)
        return embed_picture(path.read_bytes())
    except Exception:  # the errors of decoders have no common class
        return None


def embed_picture(data: bytes) -> str:
    """Makes a small JPEG of a picture, as a data URL, given the bytes of its file.

    Raises:
        Exception: it cannot be decoded. The errors of decoders have no common class.
    """
    with open_picture(data) as image:
        image.draft("RGB", (_PICTURE_WIDTH, _PICTURE_WIDTH))
        small = to_rgb(image)
    small.thumbnail((_PICTURE_WIDTH, 2 * _PICTURE_WIDTH))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_PICTURE_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


class _Attributes:
    """The attributes of boxes, read from the regions folder that was packed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = RegionStore([folder], attributes=True)
        self._names = RegionsInfo.from_file(parts_of(folder)[0]).attribute_names

    def __call__(self, image_id: str, regions: Regions) -> tuple[Array | None, Sequence[str] | None]:
        """The arguments ``attribute_ids`` and ``attribute_names`` of `label_regions`."""
        if image_id not in self._store or not np.array_equal(self._store[image_id].regions.boxes, regions.boxes):
            raise InputError(
                f"{self._folder}: does not have the boxes of {image_id!r}; name the folder that was packed"
            )
        return self._store[image_id].attribute_ids, self._names


def draw_regions(
    regions: Regions, width: int, height: int, best: Sequence[tuple[str, float]], picture: str | None
) -> str:
    """Draws an image with its boxes as SVG.

    Args:
        regions: the boxes.
        width: of the image, in pixels.
        height: of the image, in pixels.
        best: for each box a name and a number; the names of the boxes with the highest numbers are shown. It may be
            empty.
        picture: the address of the picture, or None.
    """
    boxes, texts = [], []
    size = max(width, height) / 24
    ranked = sorted(range(len(best)), key=lambda number: -best[number][1])[:_NAMED_BOXES]
    for number, (x1, y1, x2, y2) in enumerate(regions.boxes.tolist()):
        label = f"{best[number][0]} {best[number][1]:.2f}" if best else ""
        faint = ' class="faint"' if best and number not in ranked else ""
        boxes.append(
            f'<rect x="{x1:.0f}" y="{y1:.0f}" width="{x2 - x1:.0f}" height="{y2 - y1:.0f}"'
            f"{faint}><title>{escape(label)}</title></rect>"
        )
        if number in ranked:
            texts.append(f'<text x="{x1 + size / 4:.0f}" y="{y1 + size:.0f}">{escape(label)}</text>')
    named = ", ".join(best[number][0] for number in ranked) or pluralize(len(regions.boxes), "region")
    shown = "" if picture is None else f'<image href="{picture}" width="{width}" height="{height}"/>'
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(named)}">{shown}'
        f'<g font-size="{size:.0f}" '
        f'stroke-width="{size / 8:.1f}">{"".join(boxes)}{"".join(texts)}</g></svg>'
    )


# ------------------------------------------------------------------------------------------------- captions and pieces


def color_caption(caption: Caption) -> str:
    """HTML of a caption whose words have the colours of their nodes.

    A word tells its node when it is pointed at. The mentions of an object that has several end with the same number.
    """
    graph, spans = caption.graph, list_spans(caption.graph)
    nodes, labels = list_nodes(graph), label_nodes(graph)
    repeated = [number for number, item in enumerate(graph.objects) if item.mentions]
    marks: list[int | None] = [None] * len(caption.text)
    for place, (_, span) in enumerate(spans):
        marks[span.start : span.end] = [place] * (span.end - span.start)
    runs, end = [], 0
    for mark, run in groupby(marks):
        start, end = end, end + len(list(run))
        text = escape(caption.text[start:end])
        if mark is not None:
            number, span = spans[mark]
            index = f"<sup>{1 + repeated.index(number)}</sup>" if number in repeated and end == span.end else ""
            text = f'<b class="{KINDS[nodes[number].kind]}" title="{escape(labels[number])}">{text}{index}</b>'
        runs.append(text)
    return "".join(runs) or "(no text)"


def label_nodes(graph: SceneGraph) -> list[str]:
    """The nodes of a graph in words, in the order of `shards.nodes.list_nodes`."""
    nodes = list_nodes(graph)
    return [
        _LABELS[node.kind].format(node.lemma, *(nodes[number].lemma for number in node.arguments)) for node in nodes
    ]


_LABELS = {OBJECT: "{0}", ATTRIBUTE: "{1} is {0}", RELATION: "{1} – {0} – {2}"}


def _pieces(caption: Caption, number: int, masks: Masks, vocabulary: list[str]) -> str:
    first, last = masks.token_offsets[number : number + 2].tolist()
    covered: dict[int, list[tuple[str, str]]] = {}
    for node, label in zip(masks.nodes(number), label_nodes(caption.graph), strict=True):
        for position in masks.tokens(node).tolist():
            covered.setdefault(position, []).append((KINDS[masks.node_kind[node]], label))
    shown = []
    for position, piece in enumerate(masks.token_ids[first:last].tolist()):
        nodes = covered.get(position, [])
        text = escape(vocabulary[piece] if piece < len(vocabulary) else f"#{piece}")
        title = f' title="{escape("; ".join(label for _, label in nodes))}"' if nodes else ""
        shown.append(f'<span class="{nodes[0][0] if nodes else "word"}"{title}>{text}</span>')
    return f'<p class="pieces">{" ".join(shown)}</p>'


def _list_negatives(negatives: Sequence[Negative]) -> str:
    """A list of false captions with their kinds; the changed words are marked."""
    items = []
    for negative in negatives:
        parts, end = [], 0
        for span in negative.spans:
            changed = escape(negative.text[span.start : span.end])
            parts += [escape(negative.text[end : span.start]), f"<mark>{changed}</mark>"]
            end = span.end
        parts.append(escape(negative.text[end:]))
        items.append(f"<li><small>{escape(negative.kind.replace('_', ' '))}</small> {''.join(parts)}</li>")
    return f'<p class="false">False captions</p><ul class="negatives">{"".join(items)}</ul>' if items else ""


# -------------------------------------------------------------------------------------------------------------- graphs

_LINE, _PADDING, _GAP = 26, 10, 16


def draw_graph(graph: SceneGraph) -> str:
    """Draws a scene graph as SVG.

    The objects stand in a row in the order of the caption. Attributes stand above their objects, and relations are arcs
    below.
    """
    if not graph.objects:
        return '<p class="nothing">no nodes</p>'
    order = sorted(range(len(graph.objects)), key=lambda number: graph.objects[number].span)
    attributes = [[a.lemma for a in graph.attributes if a.object == number] for number in range(len(graph.objects))]
    centres = [0.0] * len(graph.objects)
    right = 2.0
    for number in order:
        width = max(map(_width, [graph.objects[number].lemma, *attributes[number]]))
        centres[number] = right + width / 2
        right += width + _GAP
    middle = _LINE * (max(map(len, attributes)) + 0.5) + 2
    levels = _levels(graph.relations, centres)
    arcs = [_arc(r, centres, middle + _LINE / 2 - 2, level) for r, level in zip(graph.relations, levels, strict=True)]
    nodes = []
    for number, item in enumerate(graph.objects):
        nodes.append(_node("object", item.lemma, centres[number], middle))
        for above, lemma in enumerate(attributes[number], 1):
            nodes.append(_node("attribute", lemma, centres[number], middle - above * _LINE))
    labels = [((centres[r.subject] + centres[r.object]) / 2, _width(r.lemma) / 2) for r in graph.relations]
    left = min([0, *(x - half - 2 for x, half in labels)])
    width = max([right - _GAP, *(x + half for x, half in labels)]) + 2 - left
    height = middle + _LINE * (max(levels) + 2 if levels else 1)
    return (
        f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="{left:.0f} 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape("; ".join(label_nodes(graph)))}">'
        f"{''.join(arcs)}{''.join(nodes)}</svg>"
    )


def _width(text: str) -> float:
    """About how many pixels wide a node with this text is."""
    return sum(13 if unicodedata.east_asian_width(c) in "WF" else 7.2 for c in text) + 2 * _PADDING


def _levels(relations: tuple[Relation, ...], centres: list[float]) -> list[int]:
    """The level of each arc, from 0. Arcs that would meet hang on different levels; short arcs hang above long ones."""
    extents = []
    for relation in relations:
        low, high = sorted((centres[relation.subject], centres[relation.object]))
        half = _width(relation.lemma) / 2
        extents.append((min(low, (low + high) / 2 - half), max(high, (low + high) / 2 + half)))
    levels = [0] * len(relations)
    taken: list[list[tuple[float, float]]] = []
    for number in sorted(range(len(relations)), key=lambda n: extents[n][1] - extents[n][0]):
        low, high = extents[number]
        free = (n for n, row in enumerate(taken) if all(high <= a or b <= low for a, b in row))
        levels[number] = level = next(free, len(taken))
        if level == len(taken):
            taken.append([])
        taken[level].append((low, high))
    return levels


def _arc(relation: Relation, centres: list[float], top: float, level: int) -> str:
    start, end = centres[relation.subject], centres[relation.object]
    side = 7 if start < end else -7
    start, end = start + side, end - side
    bottom = top + _LINE * (level + 1)
    control = top + (bottom - top) * 4 / 3  # where a cubic with both controls at this depth has its lowest point
    dashed = "" if relation.spans else ' class="dashed"'
    return (
        f'<path d="M{start:.0f} {top:.0f}C{start:.0f} {control:.0f} {end:.0f} {control:.0f} {end:.0f} {top:.0f}"'
        f'{dashed} marker-end="url(#arrow)"/>' + _node("relation", relation.lemma, (start + end) / 2, bottom, dashed)
    )


def _node(kind: str, text: str, x: float, y: float, attributes: str = "") -> str:
    width = _width(text)
    return (
        f'<g class="{kind}"><rect x="{x - width / 2:.0f}" y="{y - 11:.0f}" width="{width:.0f}" height="22" rx="11"'
        f'{attributes}/><text x="{x:.0f}" y="{y + 4:.0f}">{escape(text)}</text></g>'
    )


ARROW = (
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" '
    'refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs></svg>'
)

STYLE = """
:root{--paper:#fff;--ground:#f1f3f5;--ink:#212529;--faint:#868e96;--object:#0b7285;--attribute:#2b8a3e;
--relation:#9c36b5}
@media(prefers-color-scheme:dark){:root{--paper:#212529;--ground:#121416;--ink:#f1f3f5;--faint:#909aa3;
--object:#3bc9db;--attribute:#69db7c;--relation:#e599f7}}
*{box-sizing:border-box}
body{margin:0 auto;padding:12px;max-width:1200px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.1em;margin:0;overflow-wrap:anywhere}
header p{margin:.3em 0 1em;color:var(--faint)}
article{display:grid;grid-template-columns:320px minmax(0,1fr);gap:16px;background:var(--paper);border-radius:10px;
padding:12px;margin-bottom:12px}
@media(max-width:720px){article{grid-template-columns:minmax(0,1fr)}}
figure{margin:0}
figcaption{color:var(--faint);font-size:.85em;overflow-wrap:anywhere}
.picture{display:block;width:100%;max-height:70vh;background:var(--ground);border-radius:6px}
.picture rect{fill:none;pointer-events:all;stroke:#ffd43b}
.picture rect.faint{stroke-opacity:.35}
.picture text{fill:#ffe066;stroke:#000;paint-order:stroke;font-family:system-ui,sans-serif}
sup{font-size:.65em;line-height:0}
summary{cursor:pointer;overflow-wrap:anywhere}
details{border-bottom:1px solid var(--ground);padding:4px 0}
details:last-child{border:0}
.object{color:var(--object)}.attribute{color:var(--attribute)}.relation{color:var(--relation)}
.graph{overflow-x:auto;padding:6px 0}
.graph svg{display:block}
.graph rect{fill:var(--paper);stroke:currentColor}
.graph .object rect{fill:currentColor}
.graph .object text{fill:var(--paper)}
.graph text{fill:currentColor;text-anchor:middle;font:13px system-ui,sans-serif}
.graph path{fill:none;stroke:var(--relation);stroke-width:1.3}
.dashed{stroke-dasharray:4 3}
marker path{fill:var(--relation)}
.defs{position:absolute}
.pieces{margin:4px 0;line-height:2}
.pieces span{border:1px solid currentColor;border-radius:5px;padding:1px 5px;font:13px ui-monospace,monospace;
white-space:pre}
.pieces .word{color:var(--faint);border-style:dotted}
.false{margin:8px 0 0;color:var(--faint)}
.negatives{margin:2px 0 6px;padding:0;list-style:none}
.negatives li{position:relative;padding-left:8em}
.negatives small{color:var(--faint);position:absolute;left:0}
.negatives mark{background:none;color:inherit;text-decoration:underline wavy #e03131}
.nothing{color:var(--faint);margin:0}
"""
