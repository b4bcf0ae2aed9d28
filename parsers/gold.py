"""Gold graphs: captions with the triples that annotators wrote, and any graph as such triples.

Two layouts are read: FACTUAL's CSV (arXiv 2305.17497) with the columns ``caption`` and ``scene_graph``, and JSON lines
``{"caption": ..., "triples": [["man", "wear", "hat"], ["hat", "is", "red"], ["table"]]}``. A line may also have a
``split`` ("train" or "test") and ``mentions``: for each object the characters of the caption that speak of it.

Several things of one name are numbered: "tree", "tree:1", "tree:2".
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parsers.command import InputError, pluralize
from parsers.graph import SceneGraph, Span

Triple = tuple[str, ...]
"""(object,) for an object alone, (object, "is", attribute) or (subject, relation, object)."""

IS = "is"
_SWALLOWED = re.compile(r"\n[^\n]*,\s*\(")
"""A scene graph inside a caption."""
_NUMBER = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class GoldCaption:
    """A caption and the triples of its graph, each once, in the order of the file."""

    caption: str
    triples: tuple[Triple, ...]
    mentions: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """the places of each object, if the file says them"""
    split: str | None = None
    """"train", "test" or None if the file has no splits"""


def read_gold(path: Path, split: str | None = None) -> list[GoldCaption]:
    """Reads a ``.jsonl`` file, or any other file as CSV in FACTUAL's layout.

    Args:
        path: the file.
        split: if the file has splits, only the captions of this one are returned.

    Raises:
        InputError: the file cannot be read, or a line of it holds no caption with a graph; the message names the line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            found = _read_json_lines(path, stream) if path.suffix == ".jsonl" else _read_csv(path, stream)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the gold graphs cannot be read: {error}") from error
    return [caption for caption in found if split is None or caption.split in (None, split)]


def _read_json_lines(path: Path, lines: Iterable[str]) -> list[GoldCaption]:
    return [_parse_json(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _read_csv(path: Path, lines: Iterable[str]) -> list[GoldCaption]:
    rows = csv.DictReader(lines, strict=True)
    found = []
    place = f"{path}:1"
    try:
        names = rows.fieldnames or ()
        if not {"caption", "scene_graph"} <= set(names):
            raise InputError(f"{path}: expected a header with the columns caption and scene_graph")
        place = f"{path}:{rows.line_num + 1}"
        for row in rows:
            # A row of more fields has them under None, and one of fewer has None in them.
            if None in row or None in row.values():
                fields = pluralize(len(names), "field")
                raise InputError(f"{place}: expected a caption and a scene graph in {fields}")
            if _SWALLOWED.search(row["caption"]):
                raise InputError(f"{place}: the caption holds other rows; its quote stands open")
            found.append(GoldCaption(row["caption"], parse_triples(row["scene_graph"])))
            place = f"{path}:{rows.line_num + 1}"
    except csv.Error as error:
        raise InputError(f"{place}: is not CSV: {error}") from error
    return found


def _parse_json(place: str, line: str) -> GoldCaption:
    try:
        row = json.loads(line)
        given, caption = row["triples"], row["caption"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f'{place}: expected {{"caption": ..., "triples": [[...], ...]}}: {error!r}') from error
    if not isinstance(given, list) or not all(isinstance(t, list) and all(_is_name(p) for p in t) for t in given):
        raise InputError(f"{place}: `triples` is not a list of lists of texts")
    triples = tuple(tuple(" ".join(str(part).split()) for part in triple) for triple in given)
    if not isinstance(caption, str) or not all(len(triple) in (1, 3) and all(triple) for triple in triples):
        raise InputError(f"{place}: a caption is a text, and a triple is three texts, or one for an object alone")
    try:
        mentions = {name: tuple(Span(*ends) for ends in spans) for name, spans in row.get("mentions", {}).items()}
        inside = all(0 <= span.start < span.end <= len(caption) for spans in mentions.values() for span in spans)
    except (AttributeError, TypeError) as error:
        raise InputError(f'{place}: `mentions` is not {{"object": [[first, end], ...]}}: {error}') from error
    if not inside:
        raise InputError(f"{place}: a mention lies outside the caption")
    return GoldCaption(caption, triples, mentions, row.get("split"))


def _is_name(part: object) -> bool:
    return isinstance(part, str | int) and not isinstance(part, bool)


def parse_triples(text: str) -> tuple[Triple, ...]:
    """Parses ``( man , wear , hat ) , ( hat , is , red )``.

    A group of two is an attribute without its "is", as SPICE writes it. In a group of more than three, everything
    between the first and the last part is the relation. About one FACTUAL graph in a hundred has such groups.
    """
    triples: dict[Triple, None] = {}
    for group in re.findall(r"\(([^()]*)\)", text) or [text]:
        parts = [" ".join(part.split()) for part in group.split(",")]
        if len(parts) == 2:
            parts.insert(1, IS)
        elif len(parts) > 3:
            parts = [parts[0], " ".join(parts[1:-1]), parts[-1]]
        if all(parts):
            triples[tuple(parts)] = None
    return tuple(triples)


def remove_number(name: str) -> str:
    """Returns the name of an object without its number: "tree" for "tree:1"."""
    return _NUMBER.sub("", name)


def remove_numbers(triples: Iterable[Triple]) -> tuple[Triple, ...]:
    """Returns the triples without the numbers of objects, each once, as scores compare them."""
    return tuple(
        dict.fromkeys(
            (remove_number(t[0]), *t[1:-1], t[-1] if t[1] == IS else remove_number(t[-1])) if len(t) > 1
            else (remove_number(t[0]),)
            for t in triples
        )
    )  # fmt: skip


def list_triples(graph: SceneGraph) -> tuple[Triple, ...]:
    """Returns the graph as triples. An object without attributes and relations is a triple of its own."""
    names = [thing.lemma for thing in graph.objects]
    triples: dict[Triple, None] = {(names[a.object], IS, a.lemma): None for a in graph.attributes}
    triples |= {(names[r.subject], r.lemma, names[r.object]): None for r in graph.relations}
    mentioned = {name for triple in triples for name in list_objects(triple)}
    triples |= {(name,): None for name in names if name not in mentioned}
    return tuple(triples)


def list_objects(triple: Triple) -> Sequence[str]:
    """Returns the names of the one or two objects in a triple."""
    return triple[:1] if len(triple) == 1 or triple[1] == IS else (triple[0], triple[2])
