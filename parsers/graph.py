"""The scene graph of a caption: objects, their attributes and the relations between them, each tied to its words.

Every parser returns such graphs, and every later stage reads them. A graph is ERNIE-ViL's G(w) = <O, E, K> (arXiv
2006.16934, section 3.1): objects O, relations E over O x R x O, and attributes K over O x A.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters ``caption[start:end]``; offsets count Unicode code points, ``end`` is exclusive."""

    start: int
    end: int


def list_runs(places: Iterable[int]) -> list[tuple[int, int]]:
    """Returns the first and the last number of each run of consecutive numbers: [(2, 3), (5, 5)] for 2, 3, 5.

    Neighbouring words of a node share a span, so that a node has a span for each run of its words.

    Args:
        places: different numbers, rising.
    """
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] + 1 == place:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs


@dataclass(frozen=True, slots=True)
class Object:
    """A thing that the caption names, e.g. ``Object("fire hydrant", Span(4, 17))``."""

    lemma: str
    span: Span
    mentions: tuple[Span, ...] = ()
    visible: float = 1.0


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of ``objects[object]``, such as an adjective, a number or a material."""

    object: int
    lemma: str
    span: Span
    visible: float = 1.0


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation from ``objects[subject]`` to ``objects[object]``, such as "wear" or "on top of".

    ``spans`` are the words of the relation in order. There may be several ("covered ... with"). There is none if the
    caption has no word for the relation: in "car tire" the car *has* the tire. Such a relation is never masked.
    """

    subject: int
    object: int
    lemma: str
    spans: tuple[Span, ...]
    visible: float = 1.0


class SpanRecord(TypedDict):
    """A `Span` as plain data."""

    start: int
    end: int


class ObjectRecord(SpanRecord):
    """An `Object` as plain data."""

    lemma: str


class AttributeRecord(SpanRecord):
    """An `Attribute` as plain data."""

    object: int
    lemma: str


class RelationRecord(TypedDict):
    """A `Relation` as plain data."""

    subject: int
    object: int
    lemma: str
    spans: list[SpanRecord]


class GraphRecord(TypedDict):
    """A `SceneGraph` without its caption as plain data."""

    objects: list[ObjectRecord]
    attributes: list[AttributeRecord]
    relations: list[RelationRecord]


@dataclass(frozen=True, slots=True)
class SceneGraph:
    """A caption with its objects, attributes and relations.

    Raises:
        ValueError: an index names no object, a span is empty or leaves the caption, a lemma is empty, a relation
            joins an object with itself, or the spans of a relation overlap or are out of order.
    """

    caption: str
    objects: tuple[Object, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        for item in self.objects:
            self._check(item, (item.span,))
        for attribute in self.attributes:
            self._check(attribute, (attribute.span,))
            self._check_object(attribute, attribute.object)
        for relation in self.relations:
            self._check(relation, relation.spans)
            self._check_object(relation, relation.subject)
            self._check_object(relation, relation.object)
            if relation.subject == relation.object:
                raise ValueError(f"{relation} joins an object with itself")

    def _check(self, node: Object | Attribute | Relation, spans: tuple[Span, ...]) -> None:
        if not node.lemma:
            raise ValueError(f"{node} has an empty lemma")
        end = 0
        for span in spans:
            if not end <= span.start < span.end <= len(self.caption):
                raise ValueError(
                    f"{node}: {span} is empty, out of order or outside the caption's {len(self.caption)} characters"
                )
            end = span.end

    def _check_object(self, node: Attribute | Relation, index: int) -> None:
        if not 0 <= index < len(self.objects):
            raise ValueError(f"{node} refers to object {index}, but the graph has {len(self.objects)} objects")

    def to_dict(self) -> GraphRecord:
        """Returns the graph without its caption as plain lists and dicts, as a row of the graphs in Parquet has it."""
        return {
            "objects": [{"lemma": o.lemma, "start": o.span.start, "end": o.span.end} for o in self.objects],
            "attributes": [
                {"object": a.object, "lemma": a.lemma, "start": a.span.start, "end": a.span.end}
                for a in self.attributes
            ],
            "relations": [
                {
                    "subject": r.subject,
                    "object": r.object,
                    "lemma": r.lemma,
                    "spans": [{"start": s.start, "end": s.end} for s in r.spans],
                }
                for r in self.relations
            ],
        }

    @classmethod
    def from_dict(cls, caption: str, graph: GraphRecord) -> SceneGraph:
        """Builds the graph that `to_dict` described. Other keys are ignored.

        Raises:
            ValueError: the graph is not valid for this caption.
            KeyError: a field is missing.
        """
        return cls(
            caption,
            tuple(Object(o["lemma"], Span(o["start"], o["end"])) for o in graph["objects"]),
            tuple(Attribute(a["object"], a["lemma"], Span(a["start"], a["end"])) for a in graph["attributes"]),
            tuple(
                Relation(r["subject"], r["object"], r["lemma"], tuple(Span(s["start"], s["end"]) for s in r["spans"]))
                for r in graph["relations"]
            ),
        )
