"""Gold graphs: captions with the triples that annotators wrote, and any graph as such triples.

Two layouts are read: FACTUAL's CSV (arXiv 2305.17497) with the columns ``caption`` and ``scene_graph``, and JSON lines
``{"caption": ..., "triples": [["man", "wear", "hat"], ["hat", "is", "red"], ["table"]]}``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from parsers.command import InputError, pluralize
from parsers.graph import SceneGraph

Triple = tuple[str, ...]
"""(object,) for an object alone, (object, "is", attribute) or (subject, relation, object)."""

IS = "is"
_SWALLOWED = re.compile(r"\n[^\n]*,\s*\(")
"""A scene graph inside a caption."""


@dataclass(frozen=True, slots=True)
class GoldCaption:
    """A caption and the triples of its graph, each once, in the order of the file."""

    caption: str
    triples: tuple[Triple, ...]


def read_gold(path: Path) -> list[GoldCaption]:
    """Reads a ``.jsonl`` file, or any other file as CSV in FACTUAL's layout.

    Raises:
        InputError: the file cannot be read, or a line of it holds no caption with a graph; the message names the line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return _read_json_lines(path, stream) if path.suffix == ".jsonl" else _read_csv(path, stream)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the gold graphs cannot be read: {error}") from error


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
    return GoldCaption(caption, triples)


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
