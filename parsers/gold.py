"""Captions with their true scene graphs, and a graph as the triples that such files hold.

Read are FACTUAL's CSV (arXiv 2305.17497; columns ``caption`` and ``scene_graph``) and JSON lines
``{"caption": ..., "triples": [["man", "wear", "hat"], ["hat", "is", "red"], ["table"]]}``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parsers.graph import SceneGraph

Triple = tuple[str, ...]
"""(object,) alone, (object, "is", attribute) or (subject, relation, object)."""

IS = "is"


@dataclass(frozen=True, slots=True)
class GoldCaption:
    """A caption and the triples of its graph, each once, in the order of the file."""

    caption: str
    triples: tuple[Triple, ...]


def read_gold(path: Path) -> list[GoldCaption]:
    """Reads a ``.csv`` in FACTUAL's layout or a ``.jsonl`` file.

    Raises:
        ValueError: a line holds no caption with a graph; the message names it.
    """
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as stream:
            return [_from_json(f"{path}:{number}", line) for number, line in enumerate(stream, 1) if line.strip()]
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if not {"caption", "scene_graph"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: expected a header with the columns caption and scene_graph")
        return [GoldCaption(row["caption"], parse_triples(row["scene_graph"])) for row in rows]


def _from_json(place: str, line: str) -> GoldCaption:
    try:
        row = json.loads(line)
        triples = tuple(tuple(map(str, triple)) for triple in row["triples"])
        caption = row["caption"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{place}: expected {{"caption": ..., "triples": [[...], ...]}}: {error!r}') from error
    if not isinstance(caption, str) or not all(len(triple) in (1, 3) for triple in triples):
        raise ValueError(f"{place}: a triple has three texts, or one for an object alone")
    return GoldCaption(caption, triples)


def parse_triples(text: str) -> tuple[Triple, ...]:
    """Reads ``( man , wear , hat ) , ( hat , is , red )``.

    A pair is an attribute without its "is", as in SPICE; where there are more than three parts, those in the middle are
    the relation. About one FACTUAL graph in a hundred has such triples.
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


def triples_of(graph: SceneGraph) -> tuple[Triple, ...]:
    """The graph as triples; an object of no attribute and no relation stands alone."""
    names = [thing.lemma for thing in graph.objects]
    triples: dict[Triple, None] = {(names[a.object], IS, a.lemma): None for a in graph.attributes}
    triples |= {(names[r.subject], r.lemma, names[r.object]): None for r in graph.relations}
    mentioned = {name for triple in triples for name in object_names(triple)}
    triples |= {(name,): None for name in names if name not in mentioned}
    return tuple(triples)


def object_names(triple: Triple) -> Sequence[str]:
    """The objects that a triple names."""
    return triple[:1] if len(triple) == 1 or triple[1] == IS else (triple[0], triple[2])
