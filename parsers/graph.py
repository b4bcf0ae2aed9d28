"""The scene graph of a caption: objects, their attributes and the relations between them, each tied to its words.

Every parser returns such graphs, and every later stage reads them. A graph is ERNIE-ViL's G(w) = <O, E, K> (arXiv
2006.16934, section 3.1): objects O, relations E over O x R x O, and attributes K over O x A.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict, TypeVar

MIN_VISIBLE = 0.5
"""The lowest score ``visible`` of a node that a stage keeps, unless it is told otherwise."""
_DECIMALS = 4
"""Scores are stored with so many decimals."""


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
    """A thing that the caption names, e.g. ``Object("fire hydrant", Span(4, 17))``.

    A longer caption may speak of it several times. In "a black dog lies on a rug, and it sleeps" the dog has the span
    "dog" and the mention "it".
    """

    lemma: str
    span: Span
    """the mention that names the object"""
    mentions: tuple[Span, ...] = ()
    """its further mentions, in the order of the caption: pronouns, and names that come again"""
    visible: float = 1.0
    """how sure it is that the node can be seen in a picture, from 0 to 1; "a sense of calm" cannot"""

    @property
    def spans(self) -> tuple[Span, ...]:
        """All mentions in the order of the caption."""
        return tuple(sorted((self.span, *self.mentions))) if self.mentions else (self.span,)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of ``objects[object]``, such as an adjective, a number or a material."""

    object: int
    lemma: str
    span: Span
    visible: float = 1.0
    """see `Object`"""


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
    """see `Object`"""


class SpanRecord(TypedDict):
    """A `Span` as plain data."""

    start: int
    end: int


class _Score(TypedDict):
    """The score of a node as plain data; without it, the node has the default."""

    visible: NotRequired[float]


class ObjectRecord(SpanRecord, _Score):
    """An `Object` as plain data; without mentions, it has none."""

    lemma: str
    mentions: NotRequired[list[SpanRecord]]


class AttributeRecord(SpanRecord, _Score):
    """An `Attribute` as plain data."""

    object: int
    lemma: str


class RelationRecord(_Score):
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
            joins an object with itself, the mentions of an object or the spans of a relation overlap or are out of
            order, or a score is not between 0 and 1.
    """

    caption: str
    objects: tuple[Object, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        for item in self.objects:
            self._check(item, item.spans)
            if item.mentions:
                self._check(item, item.mentions)
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
        if not 0 <= node.visible <= 1:
            raise ValueError(f"{node}: visible is {node.visible}, expected a number from 0 to 1")
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

    def keep_objects(self, kept: Collection[int]) -> SceneGraph:
        """Returns the graph with some of its objects and what is said of these alone, in the same order."""
        place = {number: new for new, number in enumerate(n for n in range(len(self.objects)) if n in kept)}
        return SceneGraph(
            self.caption,
            tuple(self.objects[number] for number in place),
            tuple(replace(a, object=place[a.object]) for a in self.attributes if a.object in place),
            tuple(
                replace(r, subject=place[r.subject], object=place[r.object])
                for r in self.relations
                if r.subject in place and r.object in place
            ),
        )

    def keep_visible(self, least: float) -> SceneGraph:
        """Returns the graph without the nodes whose score is below ``least``, in the same order.

        With an object go its attributes and relations.
        """
        nodes: tuple[Object | Attribute | Relation, ...] = (*self.objects, *self.attributes, *self.relations)
        if all(node.visible >= least for node in nodes):
            return self
        seen = replace(
            self,
            attributes=tuple(a for a in self.attributes if a.visible >= least),
            relations=tuple(r for r in self.relations if r.visible >= least),
        )
        return seen.keep_objects({number for number, item in enumerate(self.objects) if item.visible >= least})

    def to_dict(self) -> GraphRecord:
        """Returns the graph without its caption as plain lists and dicts.

        Mentions and scores are there where they are not the default. Scores are rounded to four decimals.
        """
        return {
            "objects": [_describe_object(item) for item in self.objects],
            "attributes": [_describe_attribute(attribute) for attribute in self.attributes],
            "relations": [_describe_relation(relation) for relation in self.relations],
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
            tuple(
                Object(o["lemma"], _read_span(o), tuple(map(_read_span, o.get("mentions", ()))), _read_score(o))
                for o in graph["objects"]
            ),
            tuple(Attribute(a["object"], a["lemma"], _read_span(a), _read_score(a)) for a in graph["attributes"]),
            tuple(
                Relation(r["subject"], r["object"], r["lemma"], tuple(map(_read_span, r["spans"])), _read_score(r))
                for r in graph["relations"]
            ),
        )


def _describe_object(item: Object) -> ObjectRecord:
    record: ObjectRecord = {"lemma": item.lemma, "start": item.span.start, "end": item.span.end}
    if item.mentions:
        record["mentions"] = _describe_spans(item.mentions)
    return _with_score(record, item)


def _describe_attribute(attribute: Attribute) -> AttributeRecord:
    span = attribute.span
    record: AttributeRecord = {
        "object": attribute.object,
        "lemma": attribute.lemma,
        "start": span.start,
        "end": span.end,
    }
    return _with_score(record, attribute)


def _describe_relation(relation: Relation) -> RelationRecord:
    record: RelationRecord = {
        "subject": relation.subject,
        "object": relation.object,
        "lemma": relation.lemma,
        "spans": _describe_spans(relation.spans),
    }
    return _with_score(record, relation)


def _describe_spans(spans: Iterable[Span]) -> list[SpanRecord]:
    return [{"start": span.start, "end": span.end} for span in spans]


_Record = TypeVar("_Record", ObjectRecord, AttributeRecord, RelationRecord)


def _with_score(record: _Record, node: Object | Attribute | Relation) -> _Record:
    if node.visible != 1.0 and (visible := round(node.visible, _DECIMALS)) != 1.0:
        record["visible"] = visible
    return record


def _read_span(record: SpanRecord) -> Span:
    return Span(record["start"], record["end"])


def _read_score(record: _Score) -> float:
    """Returns the score as it was stored; as float32, which tables hold, it is off in the eighth decimal."""
    visible = record.get("visible", 1.0)
    return 1.0 if visible == 1.0 else round(visible, _DECIMALS)
