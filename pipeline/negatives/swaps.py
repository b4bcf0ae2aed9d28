"""Edits that let two words of a caption change places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

from parsers.graph import SceneGraph
from pipeline.negatives.edits import Change, Edit
from pipeline.negatives.grammar import inflect_noun, is_many
from pipeline.negatives.lexicon import LIVING, Lexicon
from pipeline.negatives.phrases import (
    Phrase,
    find_phrase,
    gender_of,
    is_bare,
    is_coordinated,
    is_count,
    is_modifier,
    is_named_once,
    list_pronouns,
)
from pipeline.negatives.picture import is_symmetric, normalize
from shards.schema import ATTRIBUTE, OBJECT

_BESIDE = re.compile(r"\b(?:next to|near|beside|close to|alongside)\b", re.IGNORECASE)
_PARTS = re.compile(r"(?:^|\b)(?:of|have|with|contain|include|feature|wear|make|cover|top|fill)\b", re.IGNORECASE)
"""Relations between a thing and what belongs to it."""
_OTHER = re.compile(r"\b(?:other|another|more|else)\b", re.IGNORECASE)
"""A caption that says "other cars" has said "a car" before."""
_DEGREE = re.compile(r"\b(?:very|so|too|more|most|really|quite|less|pretty)\s$", re.IGNORECASE)
_CERTAIN = "certain"
"""The tag of attributes of which nobody doubts whether they are true."""
_LIKE = frozenset(("room", "building", "vehicle", "clothing", "furniture", "container", "food"))
"""Tags of objects that can stand in each other's place."""


def swap_objects(graph: SceneGraph, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that let two objects change places, each with their names; attributes stay where they are.

    The kind is ``swap_relation`` if a relation joins the two, else ``swap_object``.
    """
    if _OTHER.search(graph.caption):
        return
    phrases = [find_phrase(graph, number) for number in range(len(graph.objects))]
    for first, second in combinations(range(len(graph.objects)), 2):
        joining = [r for r in graph.relations if {r.subject, r.object} == {first, second}]
        if any(_PARTS.search(r.lemma) for r in joining):
            continue
        if any(is_bare(graph, phrases[number]) for number in (first, second)):
            continue
        if not _may_swap(graph, first, second, lexicon) or not _differ(graph, first, second, phrases):
            continue
        texts = _text(graph, first), _text(graph, second)
        forms = [
            inflect_noun(text, plural=phrases[number].plural)
            for text, number in zip(texts, (second, first), strict=True)
        ]
        if forms[0] is None or forms[1] is None:
            continue
        changes = tuple(
            Change(graph.objects[number].span.start, graph.objects[number].span.end, form, ((OBJECT, number),), form)
            for number, form in ((first, forms[1]), (second, forms[0]))
        )
        yield texts[0], texts[1], Edit("swap_relation" if joining else "swap_object", changes)


def _text(graph: SceneGraph, number: int) -> str:
    span = graph.objects[number].span
    return graph.caption[span.start : span.end].lower()


def _may_swap(graph: SceneGraph, first: int, second: int, lexicon: Lexicon) -> bool:
    """Returns whether two objects are of like kind, so that a caption in which they change places can be read."""
    items = graph.objects[first], graph.objects[second]
    names = [lexicon.find_object(item.lemma) for item in items]
    if names[0] is None or names[1] is None or any(item.mentions for item in items):
        return False
    for number, name in zip((first, second), (names[0], names[1]), strict=True):
        start = graph.objects[number].span.start
        if (graph.caption[start].isupper() and start > 0) or is_modifier(graph, number):
            return False
        if not lexicon.objects.alternatives(name, mass=False) or not lexicon.objects.may_be_put_in(name):
            return False
        if not is_named_once(graph, number, lexicon.objects.overlapping(name)):
            return False
    if not lexicon.objects.overlapping(names[0]).isdisjoint(lexicon.objects.overlapping(names[1])):
        return False
    if list_pronouns(graph.caption) and len({gender_of(name) for name in names if name is not None}) > 1:
        return False
    tags = [lexicon.tags_of_object(item.lemma) for item in items]
    both_live = all(tag & LIVING for tag in tags)
    return both_live or lexicon.objects.share_line(names[0], names[1]) or bool(tags[0] & tags[1] & _LIKE)


def _differ(graph: SceneGraph, first: int, second: int, phrases: Sequence[Phrase]) -> bool:
    """Returns whether it matters which of two objects stands where.

    Of things that stand side by side, as in "a dog and a cat" or "a dog next to a cat", the same is said the other way
    round, unless both have attributes. "a dog and two cats" is not "a cat and two dogs" either.
    """
    joining = [r for r in graph.relations if {r.subject, r.object} == {first, second}]
    low, high = sorted((graph.objects[first].span, graph.objects[second].span))
    beside = bool(_BESIDE.search(graph.caption[low.end : high.start])) or any(is_symmetric(r.lemma) for r in joining)
    together = is_coordinated(graph, first, second)
    if not beside and (not together or phrases[first].plural != phrases[second].plural):
        return True
    described = [{a.lemma for a in graph.attributes if a.object == number} for number in (first, second)]
    return all(described) and described[0].isdisjoint(described[1])


def swap_attributes(graph: SceneGraph, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that let attributes of two objects change places, each with their words.

    Each must be such that it can be said of the other's object, and stand before its own.
    """
    for first, second in combinations(range(len(graph.attributes)), 2):
        one, other = graph.attributes[first], graph.attributes[second]
        if normalize(graph.objects[one.object].lemma) == normalize(graph.objects[other.object].lemma):
            continue
        spans = one.span, other.span
        if any(sum(a.span == span for a in graph.attributes) > 1 for span in spans):
            continue
        texts = [graph.caption[span.start : span.end].lower() for span in spans]
        if (texts[0] in lexicon.numbers) != (texts[1] in lexicon.numbers):
            continue
        if not _describes(texts[0], graph, other.object, lexicon) or not _describes(
            texts[1], graph, one.object, lexicon
        ):
            continue
        if texts[1] in lexicon.attributes.overlapping(texts[0]):
            continue
        if _has_like(graph, other.object, texts[0], second, lexicon) or _has_like(
            graph, one.object, texts[1], first, lexicon
        ):
            continue
        if not all(_stands_before(graph, number) for number in (first, second)):
            continue
        if not _excludes(texts[0], texts[1], lexicon):
            continue
        changes = (
            Change(one.span.start, one.span.end, texts[1], ((ATTRIBUTE, first),), other.lemma),
            Change(other.span.start, other.span.end, texts[0], ((ATTRIBUTE, second),), one.lemma),
        )
        yield texts[0], texts[1], Edit("swap_attribute", changes)


def _excludes(first: str, second: str, lexicon: Lexicon) -> bool:
    """Returns whether it is false to say one attribute where the other is true.

    A large bathroom with a modern bathtub may also be a modern bathroom with a large bathtub, but a red bus with a
    striped door is no striped bus with a red door.
    """
    certain = all(_CERTAIN in lexicon.attributes.tags(text) for text in (first, second))
    return certain or first in lexicon.numbers or lexicon.attributes.share_line(first, second)


def _has_like(graph: SceneGraph, number: int, text: str, but: int, lexicon: Lexicon) -> bool:
    """Returns whether an object has an attribute, but for one, that excludes another attribute."""
    own = [a for place, a in enumerate(graph.attributes) if a.object == number and place != but]
    return any(a.lemma == text or lexicon.attributes.share_line(a.lemma, text) for a in own)


def _describes(text: str, graph: SceneGraph, number: int, lexicon: Lexicon) -> bool:
    """Returns whether an attribute can be said of an object."""
    item = graph.objects[number]
    if text in lexicon.numbers:
        return is_many(_text(graph, number).split()[-1])
    if is_count(text):
        return False
    return bool(lexicon.attributes.alternatives(text, lexicon.tags_of_object(item.lemma)))


def _stands_before(graph: SceneGraph, number: int) -> bool:
    """Returns whether an attribute stands before its object, with nothing but other attributes of it between."""
    attribute = graph.attributes[number]
    item = graph.objects[attribute.object]
    if attribute.span.end > item.span.start:
        return False
    between = graph.caption[attribute.span.end : item.span.start]
    for a in graph.attributes:
        if a.object == attribute.object and attribute.span.end <= a.span.start < item.span.start:
            between = between.replace(graph.caption[a.span.start : a.span.end], "")
    before = graph.caption[: attribute.span.start].rstrip()
    if _DEGREE.search(graph.caption[: attribute.span.start]):
        return False
    return not between.strip(" ,") and not before.endswith((" and", "&"))
