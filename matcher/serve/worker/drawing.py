"""Draws pictures with their regions, and captions with their scene graphs, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import parsers
from parsers import Parser
from parsers.graph import MIN_VISIBLE, SceneGraph
from shards.inspect.page import color_caption, draw_graph, draw_regions
from shards.regions.store import RegionStore
from shards.regions.table import RegionsInfo, RegionsRow, label_regions
from shards.schema import Caption
from shards.stage_folder import REPORT, parts_of


@dataclass(frozen=True)
class DrawnCaption:
    """A caption whose words have the colours of their nodes, and its graph; both are HTML."""

    text: str
    colored: str
    graph: str


@dataclass(frozen=True)
class Drawn:
    """A picture and its captions."""

    image_id: str
    picture: str | None
    """SVG; None if there are no regions of the picture"""
    captions: tuple[DrawnCaption, ...]


@dataclass(frozen=True)
class ToDraw:
    """A picture that is to be drawn."""

    image_id: str
    address: str
    """where a browser finds the picture"""
    captions: tuple[str, ...]


def draw_pictures(wanted: Sequence[ToDraw], regions: Path | None) -> list[Drawn]:
    """Draws pictures with their captions.

    Args:
        wanted: the pictures.
        regions: a folder of regions, or None.
    """
    store = None if regions is None else open_store(regions)
    texts = [text for picture in wanted for text in picture.captions]
    captions = dict(zip(texts, draw_captions(texts), strict=True))
    return [
        Drawn(
            picture.image_id,
            None
            if store is None or picture.image_id not in store
            else draw_row(store[picture.image_id], name_regions(regions, store[picture.image_id]), picture.address),
            tuple(captions[text] for text in picture.captions),
        )
        for picture in wanted
    ]


def draw_captions(texts: Sequence[str]) -> list[DrawnCaption]:
    """Draws captions."""
    return [
        DrawnCaption(text, color_caption(Caption(None, text, graph)), draw_graph(graph))
        for text, graph in zip(texts, parse(texts), strict=True)
    ]


def parse(texts: Sequence[str]) -> list[SceneGraph]:
    """Returns the scene graphs that a training would see."""
    return [graph.keep_visible(MIN_VISIBLE) for graph in _parser().parse(texts)] if texts else []


def draw_row(row: RegionsRow, names: Sequence[tuple[str, float]], address: str | None) -> str:
    """Draws the regions of a picture as SVG; ``names`` has a name and a number for each of them."""
    return draw_regions(row.regions, row.width, row.height, names, address)


def name_regions(folder: Path | None, row: RegionsRow) -> list[tuple[str, float]]:
    """Returns the name of each region and how likely it is; nothing if the regions have no classes."""
    if folder is None or row.regions.class_ids is None:
        return []
    info = _open(folder, (folder / REPORT).stat().st_mtime_ns)[1]
    return label_regions(row.regions, info.classes, row.attribute_ids, info.attribute_names)


def open_store(folder: Path) -> RegionStore:
    """Opens a folder of regions; the one that was used last stays open as long as it is the same."""
    return _open(folder, (folder / REPORT).stat().st_mtime_ns)[0]


@lru_cache(maxsize=1)
def _open(folder: Path, _written_ns: int) -> tuple[RegionStore, RegionsInfo]:
    return RegionStore([folder], classes=True, attributes=True), RegionsInfo.from_file(parts_of(folder)[0])


@lru_cache(maxsize=1)
def _parser() -> Parser:
    return parsers.get(parsers.DEFAULT)
