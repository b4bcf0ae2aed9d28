"""A false caption as an edit of a true one: some words become others, and the graph says so, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from pipeline.negatives.grammar import choose_article, find_article, match_case
from shards.schema import ATTRIBUTE, OBJECT, RELATION

NodeName = tuple[int, int]
"""The kind of a node and its number among the nodes of this kind."""


@dataclass(frozen=True, slots=True)
class Change:
    """Some characters of a caption become others."""

    start: int
    end: int
    """where the characters end; the start, if words are put in there"""
    text: str
    """what stands there then, in lower case"""
    nodes: tuple[NodeName, ...] = ()
    """the nodes that the words stand for; none for a pronoun that changes with them"""
    lemma: str = ""
    """the new lemma of these nodes"""


@dataclass(frozen=True, slots=True)
class Edit:
    """What makes a caption false."""

    kind: str
    """one of `shards.schema.NEGATIVE_KINDS`"""
    changes: tuple[Change, ...]
    described: int | None = None
    """the object of an attribute that is added"""


@dataclass(frozen=True, slots=True)
class FalseCaption:
    """A caption that is false, with its graph."""

    kind: str
    """one of `shards.schema.NEGATIVE_KINDS`"""
    graph: SceneGraph
    spans: tuple[Span, ...]
    """the changed words in the false caption, in order"""


def apply_edit(graph: SceneGraph, edit: Edit) -> FalseCaption:
    """Makes the false caption of an edit. Indefinite articles before changed words are put right.

    Example: in "a cat on an old mat" the cat becomes an owl and old new: "an owl on a new mat". The changed words are
    "owl" and "new". The nodes keep their places in the graph, and their lemmas change.

    Raises:
        ValueError: two changes overlap, or a node would have no words left.
    """
    text = _Rewritten(graph.caption, edit.changes)
    lemmas = {name: change.lemma for change in edit.changes for name in change.nodes}
    objects = tuple(
        Object(
            lemmas.get((OBJECT, number), item.lemma), text.move(item.span), text.move_all(item.mentions), item.visible
        )
        for number, item in enumerate(graph.objects)
    )
    attributes = [
        replace(a, lemma=lemmas.get((ATTRIBUTE, number), a.lemma), span=text.move(a.span))
        for number, a in enumerate(graph.attributes)
    ]
    relations = tuple(
        Relation(r.subject, r.object, lemmas.get((RELATION, number), r.lemma), text.move_all(r.spans), r.visible)
        for number, r in enumerate(graph.relations)
    )
    spans = tuple(sorted(text.find(change) for change in edit.changes))
    if edit.described is not None:
        (change,) = edit.changes
        attributes.append(Attribute(edit.described, change.lemma, spans[0], objects[edit.described].visible))
    return FalseCaption(edit.kind, SceneGraph(text.text, objects, tuple(attributes), relations), spans)


class _Rewritten:
    """A caption after some changes, and where its characters are then."""

    def __init__(self, caption: str, changes: Sequence[Change]) -> None:
        articles = (_correct_article(caption, change) for change in changes)
        self._changes = sorted((*changes, *filter(None, articles)), key=lambda change: (change.start, change.end))
        parts, end = [], 0
        for change in self._changes:
            if change.start < end:
                raise ValueError(f"the change to {change.text!r} overlaps another one")
            parts += [caption[end : change.start], self._write(caption, change)]
            end = change.end
        self.text = "".join((*parts, caption[end:]))

    @staticmethod
    def _write(caption: str, change: Change) -> str:
        if change.start == change.end:
            return f"{change.text} "
        return match_case(change.text, caption[change.start : change.end])

    def find(self, change: Change) -> Span:
        """Returns where the words of a change stand."""
        start = change.start + self._shift(change.start, but=change)
        return Span(start, start + len(change.text))

    def move(self, span: Span) -> Span:
        """Returns where the words of a span stand, whether they were changed or not."""
        return Span(span.start + self._shift(span.start), span.end + self._shift(span.end))

    def move_all(self, spans: Sequence[Span]) -> tuple[Span, ...]:
        """Returns where the words of some spans stand."""
        return tuple(map(self.move, spans))

    def _shift(self, place: int, but: Change | None = None) -> int:
        """Returns by how much what stands before a place of the caption grew."""
        return sum(
            len(change.text) - (change.end - change.start) + (change.start == change.end)
            for change in self._changes
            if change.end <= place and change is not but
        )


def _correct_article(caption: str, change: Change) -> Change | None:
    """Returns the change of the indefinite article before changed words; None if there is none, or it fits."""
    found = find_article(caption[: change.start])
    if found is None:
        return None
    start, article = found
    fitting = choose_article(change.text.split()[0])
    return None if fitting == article.lower() else Change(start, start + len(article), fitting)
