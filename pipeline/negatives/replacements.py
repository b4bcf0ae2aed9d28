"""Edits that put one word of a caption in the place of another of its kind, or add an attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from parsers.graph import SceneGraph, Span
from parsers.verbs import find_verbs
from pipeline.negatives.edits import Change, Edit
from pipeline.negatives.grammar import inflect_noun, inflect_verb
from pipeline.negatives.lexicon import Lexicon
from pipeline.negatives.phrases import (
    ARTICLES,
    find_phrase,
    gender_of,
    is_bare,
    is_count,
    is_modifier,
    is_named_once,
    list_pronouns,
    swap_gender,
)
from pipeline.negatives.picture import Picture, normalize
from shards.schema import ATTRIBUTE, OBJECT, RELATION

_WORD = re.compile(r"\S+")
_AUXILIARIES = frozenset(("is", "are", "was", "were", "be", "being", "been"))
DIGITS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "twelve": "12",
}  # fmt: skip


def replace_objects(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that replace an object, each with the old and the new name."""
    for number, item in enumerate(graph.objects):
        name = lexicon.find_object(item.lemma)
        if name is None or is_modifier(graph, number):
            continue
        if not is_named_once(graph, number, lexicon.objects.overlapping(name)):
            continue
        phrase = find_phrase(graph, number)
        may_be_mass = not phrase.plural and phrase.determiner not in ARTICLES
        masses = lexicon.objects.alternatives(name, mass=True) if may_be_mass else []
        if not masses and is_bare(graph, phrase):
            continue
        for other in masses or lexicon.objects.alternatives(name, mass=False):
            form = other if masses else inflect_noun(other, plural=phrase.plural)
            pronouns = _change_pronouns(graph, name, other)
            if form is None or pronouns is None or picture.says(lexicon.objects.overlapping(other)):
                continue
            change = Change(item.span.start, item.span.end, form, ((OBJECT, number),), form)
            yield name, other, Edit("replace_object", (change, *pronouns))


def _change_pronouns(graph: SceneGraph, name: str, other: str) -> tuple[Change, ...] | None:
    """Returns how the pronouns change with the gender of a person; None if it is not clear whose they are."""
    pronouns = list_pronouns(graph.caption)
    old, new = gender_of(name), gender_of(other)
    if not pronouns or old is None or old == new:
        return ()
    persons = [gender_of(normalize(item.lemma)[-1]) for item in graph.objects if normalize(item.lemma)]
    if new is None or sum(person is not None for person in persons) != 1:
        return None
    return tuple(Change(start, end, swap_gender(graph.caption, end, word)) for start, end, word in pronouns)


def replace_attributes(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that replace an attribute, each with the old and the new name."""
    for span, numbers in _by_span(graph).items():
        if _overlaps_other(graph, span):
            continue
        text = graph.caption[span.start : span.end].lower()
        words = text.split()
        ends = (" ".join(words[first:]) for first in range(len(words)))
        name = next((end for end in ends if end in lexicon.attributes), None)
        measure = f"{text} of"
        if name is None and measure in lexicon.attributes and graph.caption[span.end :].startswith(" of"):
            name = measure
        if name is None:
            yield from _replace_unknown(graph, span, numbers, picture, lexicon)
            continue
        start = span.end - len(name) if text.endswith(name) else span.start
        described = [graph.objects[graph.attributes[number].object].lemma for number in numbers]
        options = [lexicon.attributes.alternatives(name, lexicon.tags_of_object(lemma)) for lemma in described]
        for other in options[0]:
            if all(other in option for option in options) and not picture.says(lexicon.attributes.overlapping(other)):
                if name == measure:
                    other = other.removesuffix(" of")
                lemma = (text[: start - span.start] + other).strip()
                nodes = tuple((ATTRIBUTE, number) for number in numbers)
                yield name, other, Edit("replace_attribute", (Change(start, span.end, other, nodes, lemma),))


def _replace_unknown(
    graph: SceneGraph, span: Span, numbers: Sequence[int], picture: Picture, lexicon: Lexicon
) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that replace a word before an object by an attribute that is seldom true of the object."""
    (first, *others) = (graph.attributes[number].object for number in numbers)
    text = graph.caption[span.start : span.end].lower()
    name = lexicon.find_object(graph.objects[first].lemma)
    stands_before = span.end + 1 == graph.objects[first].span.start
    if others or name is None or not stands_before or is_count(text) or not graph.caption[span.start].islower():
        return
    for other in lexicon.objects.additions(name):
        if not picture.says(lexicon.attributes.overlapping(other)):
            change = Change(span.start, span.end, other, ((ATTRIBUTE, numbers[0]),), other)
            yield text, other, Edit("replace_attribute", (change,))


def replace_numbers(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that replace a number of things by another one, each with the old and the new number."""
    words = {digit: word for word, digit in DIGITS.items()}
    for span, numbers in _by_span(graph).items():
        text = graph.caption[span.start : span.end].lower()
        name = words.get(text, text)
        things = [graph.attributes[number].object for number in numbers]
        if name not in lexicon.numbers or not all(_are_several(graph, thing, lexicon) for thing in things):
            continue
        for other in lexicon.numbers.alternatives(name):
            if not picture.says((other, DIGITS[other])):
                nodes = tuple((ATTRIBUTE, number) for number in numbers)
                form = DIGITS[other] if text in words else other
                change = Change(span.start, span.end, form, nodes, DIGITS[other])
                yield name, other, Edit("replace_number", (change,))


def _are_several(graph: SceneGraph, number: int, lexicon: Lexicon) -> bool:
    """Returns whether an object that comes with a number is several things: not the story of a "two story house"."""
    return find_phrase(graph, number).plural or lexicon.find_object(graph.objects[number].lemma) is not None


def add_attributes(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that give an object one more attribute, each with the name of the object and the attribute.

    An attribute that excludes one that another caption gives to the object is false for certain: another caption has a
    red bus, and this one gets a blue one. The lexicon has attributes that are seldom true of an object.
    """
    for number, item in enumerate(graph.objects):
        name = lexicon.find_object(item.lemma)
        phrase = find_phrase(graph, number)
        if name is None or is_bare(graph, phrase) or is_modifier(graph, number) or _is_inside_name(graph, phrase.start):
            continue
        own = [a.lemma.lower() for a in graph.attributes if a.object == number and not is_count(a.lemma)]
        tags = lexicon.tags_of_object(item.lemma)
        elsewhere = picture.attributes_of(lexicon.objects.overlapping(name)) if not own else []
        excluded = [other for known in elsewhere for other in lexicon.attributes.alternatives(known, tags)]
        for other in dict.fromkeys([*excluded, *lexicon.objects.additions(name)]):
            fits = not is_count(other) and not any(lexicon.attributes.share_line(other, known) for known in own)
            if fits and not picture.says(lexicon.attributes.overlapping(other)):
                change = Change(phrase.start, phrase.start, other, ((ATTRIBUTE, len(graph.attributes)),), other)
                yield name, other, Edit("add_attribute", (change,), number)


def _is_inside_name(graph: SceneGraph, place: int) -> bool:
    """Returns whether words that are put in at a place would break a name, or begin the caption."""
    ends = [o.span.end for o in graph.objects] + [a.span.end for a in graph.attributes if not is_count(a.lemma)]
    return place - 1 in ends or graph.caption[place].isupper()


def replace_relations(graph: SceneGraph, picture: Picture, lexicon: Lexicon) -> Iterator[tuple[str, str, Edit]]:
    """Yields the edits that replace the verb or the preposition of a relation, each with the old and the new one."""
    by_spans: dict[tuple[Span, ...], list[int]] = {}
    for number, relation in enumerate(graph.relations):
        by_spans.setdefault(relation.spans, []).append(number)
    for spans, numbers in by_spans.items():
        words = [
            (span.start + match.start(), match[0].lower())
            for span in spans
            for match in _WORD.finditer(graph.caption[span.start : span.end])
            if match[0].lower() not in _AUXILIARIES
        ]
        if not words or any(_PARTICLE.match(graph.caption[span.end :]) for span in spans):
            continue
        tags, doers = (
            frozenset[str]().union(*(lexicon.tags_of_object(graph.objects[place].lemma) for place in places))
            for places in zip(*((graph.relations[n].object, graph.relations[n].subject) for n in numbers), strict=True)
        )
        nodes = tuple((RELATION, number) for number in numbers)
        lemma = graph.relations[numbers[0]].lemma
        first = graph.relations[numbers[0]].object
        known = lexicon.find_object(graph.objects[first].lemma) is not None
        ends = not graph.caption[spans[-1].end :].strip(" .!") if spans else True
        phrase = find_phrase(graph, first)
        no_place = not _NO_PLACES.isdisjoint(normalize(graph.objects[first].lemma)[-1:])
        own = phrase.determiner in _POSSESSIVES
        worn = lemma == "in" and not doers.isdisjoint(("person", "child"))  # perhaps: "a man in a parka"
        fixed = ends or no_place or (not known and (worn or own or is_bare(graph, phrase)))
        for old, new, change in (
            *_replace_verb(words, spans, tags, doers, picture, lexicon),
            *(() if fixed else _replace_preposition(words, spans, lemma, tags, picture, lexicon)),
        ):
            if not (own and new == "lack"):  # "a zebra lacks its head turned"
                yield old, new, Edit("replace_relation", (replace(change, nodes=nodes),))


_PARTICLE = re.compile(r"\s+(?:onto|on|up|out|off|down|away|back)\b")
"""What follows a verb that means something else with it: "holding on"."""
_POSSESSIVES = frozenset(("its", "their", "his", "her"))
_NO_PLACES = frozenset(("line", "row", "circle", "formation", "display", "picture", "photo", "image", "scene", "shade"))
"""After "in" or "on" they say how things stand or where they are seen. Nothing stands next to "a line"."""
_STILL = frozenset(("sit", "lie", "stand", "kneel", "sleep"))
_WAYS = frozenset(
    ("to", "down", "up", "across", "through", "along", "into", "past", "toward", "towards", "over", "off")
)
"""Prepositions of a way, along which nobody sits."""
_Words = Sequence[tuple[int, str]]
"""The words of a relation in lower case, each with the place where it starts."""


def _replace_verb(
    words: _Words,
    spans: Sequence[Span],
    tags: frozenset[str],
    doers: frozenset[str],
    picture: Picture,
    lexicon: Lexicon,
) -> Iterator[tuple[str, str, Change]]:
    start, first = words[0]
    rest = " ".join(word for _, word in words[1:])
    for verb in find_verbs(first):
        whole = f"{verb} {rest}".strip()
        if whole in lexicon.relations and len(spans) == 1:
            name, end, after = whole, spans[0].end, ""
            options = lexicon.relations.alternatives(name, tags)
        elif verb in lexicon.actions and rest and len(spans) == 1:
            name, end, after = verb, start + len(first), rest
            options = lexicon.actions.alternatives(name, doers)
            if words[1][1] in _WAYS:
                options = [other for other in options if other not in _STILL]
        else:
            continue
        for other in options:
            form = inflect_verb(other, first)
            if form is not None and not picture.does(other) and not picture.says([other]):
                yield name, other, Change(start, end, form, lemma=f"{other} {after}".strip())


def _replace_preposition(
    words: _Words, spans: Sequence[Span], lemma: str, tags: frozenset[str], picture: Picture, lexicon: Lexicon
) -> Iterator[tuple[str, str, Change]]:
    last = [word for word in words if word[0] >= spans[-1].start]
    for place, (start, first) in enumerate(last):
        name = " ".join(word for _, word in last[place:])
        if name not in lexicon.relations or (find_verbs(first) and first not in _ALSO_VERBS):
            continue
        before = words[: len(words) - len(last) + place]
        verbs = find_verbs(before[0][1]) if before else ()
        if verbs and not any(verb in lexicon.placed for verb in verbs):
            return
        for other in lexicon.relations.alternatives(name, tags):
            if not picture.says([other]):
                yield name, other, Change(start, spans[-1].end, other, lemma=f"{lemma.removesuffix(name)}{other}")
        return


_ALSO_VERBS = frozenset(
    ("near", "left", "right", "down", "up", "back", "front", "top", "side", "edge", "middle", "center", "corner")
)


def _by_span(graph: SceneGraph) -> dict[Span, list[int]]:
    """Returns the numbers of the attributes that stand for the same words, by these words."""
    found: dict[Span, list[int]] = {}
    for number, attribute in enumerate(graph.attributes):
        found.setdefault(attribute.span, []).append(number)
    return found


def _overlaps_other(graph: SceneGraph, span: Span) -> bool:
    """Returns whether an object or a relation stands for some of the words, too, or another attribute does."""
    others = [s for item in graph.objects for s in item.spans] + [s for r in graph.relations for s in r.spans]
    others += [a.span for a in graph.attributes if a.span != span]
    return any(other.start < span.end and span.start < other.end for other in others)
