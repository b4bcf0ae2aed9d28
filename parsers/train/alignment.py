"""Ties gold triples to the words of their caption: what the neural parser learns from.

98 to 99 of 100 objects and attributes of FACTUAL and 92 of 100 relations are in the caption word by word, inflected or
misspelt; the rest is learned as labels ("two" as 2, "of" as have) or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from parsers.gold import Triple, list_objects
from parsers.graph import SceneGraph, Span
from parsers.lemmatizer import Lemmatizer
from parsers.neural.words import Words

NUMBERS = {
    "2": {"two", "pair", "couple", "both", "twin"}, "3": {"three", "trio"}, "4": {"four"}, "5": {"five"},
    "6": {"six"}, "7": {"seven"}, "8": {"eight"}, "9": {"nine"}, "10": {"ten"}, "12": {"twelve", "dozen"},
    "many": {"lots", "lot", "bunch", "several", "multiple"}, "several": {"many", "some", "few"},
}  # fmt: skip
STAND_INS = {
    "people": {"they", "them", "everyone", "others", "guys"}, "man": {"he", "him", "guy"},
    "woman": {"she", "her", "lady"}, "person": {"guy", "someone", "he", "she", "they"},
}  # fmt: skip
"""Names that FACTUAL's annotators wrote for other words."""
SILENT = frozenset(
    [
        "of",
        "'s",
        "with",
        "in",
        "on",
        "at",
        "has",
        "have",
        "having",
        "and",
        "by",
        "from",
        "for",
        "to",
        "wearing",
        "inside",
        "holding",
    ]
)
"""Words that a relation's label may stand for without containing them."""
TYPO = 0.8


@dataclass(frozen=True, slots=True)
class Phrase:
    """Neighbouring words, first and last included; the last one stands for the phrase."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class AlignedAttribute:
    """An attribute and the object that it belongs to."""

    phrase: Phrase
    object: int
    """word that stands for the object"""
    label: str


@dataclass(frozen=True, slots=True)
class AlignedRelation:
    """``anchor`` is the last of ``words``, or the object's word where the caption has no word for the relation."""

    anchor: int
    words: tuple[int, ...]
    subject: int
    object: int
    label: str


@dataclass(frozen=True, slots=True)
class Aligned:
    """A caption's graph over its words."""

    objects: tuple[tuple[Phrase, str], ...]
    attributes: tuple[AlignedAttribute, ...]
    relations: tuple[AlignedRelation, ...]
    missing: tuple[Triple, ...]
    """what could not be tied to words"""


def align_graph(words: Words, graph: SceneGraph) -> Aligned:
    """The graph that another parser tied to the characters of the caption, over its words."""
    phrases = {i: _phrase(words, thing.span) for i, thing in enumerate(graph.objects)}
    objects = {phrase: graph.objects[i].lemma for i, phrase in phrases.items() if phrase is not None}
    attributes, relations = [], []
    for attribute in graph.attributes:
        phrase, noun = _phrase(words, attribute.span), phrases[attribute.object]
        if phrase is not None and noun is not None and phrase.last != noun.last:
            attributes.append(AlignedAttribute(phrase, noun.last, attribute.lemma))
    for relation in graph.relations:
        subject, object_ = phrases[relation.subject], phrases[relation.object]
        if subject is not None and object_ is not None and subject.last != object_.last:
            found = filter(None, (_phrase(words, span) for span in relation.spans))
            spoken = tuple(i for phrase in found for i in range(phrase.first, phrase.last + 1))
            if subject.last not in spoken and object_.last not in spoken:
                anchor = spoken[-1] if spoken else object_.last
                relations.append(AlignedRelation(anchor, spoken, subject.last, object_.last, relation.lemma))
    return Aligned(tuple(objects.items()), tuple(attributes), tuple(relations), ())


def _phrase(words: Words, span: Span) -> Phrase | None:
    inside = [i for i, (start, end) in enumerate(words.places) if span.start <= start and end <= span.end]
    return Phrase(inside[0], inside[-1]) if inside else None


class Aligner:
    """Finds the words of gold triples."""

    def __init__(self, lemmatizer: Lemmatizer) -> None:
        self._lemmatizer = lemmatizer

    def __call__(self, words: Words, triples: Iterable[Triple]) -> Aligned:
        """Aligns one graph. Objects may be numbered ("tree:1") and verbs marked ("v:hold") as in FACTUAL's id files."""
        triples = [tuple(map(_unmarked, triple)) for triple in triples]
        forms = words.forms
        phrases = self._objects(forms, triples)
        attributes, relations, missing = [], [], []
        for triple in triples:
            keys = list_objects(triple)
            if any(phrases.get(key) is None for key in keys):
                missing.append(triple)
            elif len(keys) == 2:
                subject, object_ = (phrases[key] for key in keys)
                assert subject is not None
                assert object_ is not None
                if subject != object_:
                    relations.append(self._relation(forms, triple[1], subject, object_))
            elif len(triple) == 3:
                noun = phrases[triple[0]]
                assert noun is not None
                found = self._attribute(forms, triple[2], noun)
                if found is None:
                    missing.append(triple)
                else:
                    attributes.append(AlignedAttribute(found, noun.last, triple[2]))
        objects = {phrase: _unnumbered(key) for key, phrase in phrases.items() if phrase is not None}
        return Aligned(tuple(objects.items()), tuple(attributes), tuple(relations), tuple(missing))

    def _objects(self, forms: Sequence[str], triples: Iterable[Triple]) -> dict[str, Phrase | None]:
        keys: dict[str, None] = {}
        for triple in triples:
            keys |= dict.fromkeys(list_objects(triple))
        phrases: dict[str, Phrase | None] = {}
        # Longer names first: "tree" is not the tree of "tree trunk" if both are objects.
        for key in sorted(keys, key=lambda key: (-len(key.split()), key)):
            taken = {i for phrase in phrases.values() if phrase for i in range(phrase.first, phrase.last + 1)}
            found = self._find(forms, _unnumbered(key).split())
            free = [phrase for phrase in found if phrase.last not in taken]
            phrases[key] = next(iter(free or found), None)
        return {key: phrases[key] for key in keys}

    def _attribute(self, forms: Sequence[str], label: str, noun: Phrase) -> Phrase | None:
        found = self._find(forms, label.split())
        found = [phrase for phrase in found if not noun.first <= phrase.last <= noun.last] or found
        # Attributes mostly stand before their noun.
        return min(
            found, key=lambda p: noun.last - p.last if p.last <= noun.last else 2 * (p.last - noun.last), default=None
        )

    def _find(self, forms: Sequence[str], name: Sequence[str]) -> list[Phrase]:
        """Where the words of ``name`` stand next to each other: equal ones, else inflected, else misspelt."""
        length = len(name)
        for are_same in (str.__eq__, self._are_forms, _are_similar):
            found = [
                Phrase(i, i + length - 1)
                for i in range(len(forms) - length + 1)
                if all(are_same(a, b) for a, b in zip(name, forms[i : i + length], strict=True))
            ]
            if found:
                return found
        tokens = " ".join(name).replace("-", " - ").split()
        return (self._find(forms, tokens) if len(tokens) > length else []) or self._find_spelt(forms, name)

    def _find_spelt(self, forms: Sequence[str], name: Sequence[str]) -> list[Phrase]:
        """Where the same letters are cut into words differently: "cell phone" for "cellphone", or the other way."""
        letters = _letters(name)
        return [
            Phrase(i, i + length - 1)
            for length in (len(name) + 1, len(name) - 1)
            for i in range(len(forms) - length + 1)
            if length and self._are_forms(letters, _letters(forms[i : i + length]))
        ]

    def _relation(self, forms: Sequence[str], label: str, subject: Phrase, object_: Phrase) -> AlignedRelation:
        names = {i for phrase in (subject, object_) for i in range(phrase.first, phrase.last + 1)}
        low, high = (
            sorted((subject.last, object_.first)) if subject.last < object_.first else (object_.last, subject.first)
        )
        free = [i for i in range(len(forms)) if i not in names]
        # Between the two first, the nearest to them first.
        free.sort(key=lambda i: (not low < i < high, -i if low < i < high else min(abs(i - low), abs(i - high))))
        found: list[int] = []
        for word in reversed(label.split()):
            near = [i for i in free if i not in found and (not found or i < found[-1])] or [
                i for i in free if i not in found
            ]
            if found:
                near.sort(key=lambda i: abs(i - found[-1]))
            match = next((i for i in near if forms[i] == word), None)
            if match is None:
                match = next((i for i in near if self._are_forms(word, forms[i])), None)
            if match is None:
                match = next((i for i in near if low < i < high and _are_similar(word, forms[i])), None)
            if match is not None:
                found.append(match)
        if not found:
            silent = [i for i in range(low + 1, high) if i not in names and forms[i] in SILENT]
            if not silent and label == "have":
                silent = [i for i in free if forms[i] in ("of", "'s", "with")][:1]
            found = silent[:1]
        words = tuple(sorted(found))
        return AlignedRelation(words[-1] if words else object_.last, words, subject.last, object_.last, label)

    def _are_forms(self, gold: str, form: str) -> bool:
        if form in NUMBERS.get(gold, ()) or form in STAND_INS.get(gold, ()):
            return True
        return bool(self._lemmas(gold) & self._lemmas(form))

    def _lemmas(self, word: str) -> set[str]:
        return {word}.union(*(self._lemmatizer.lemmas(word, pos) for pos in ("noun", "verb", "adj")))


def _letters(words: Sequence[str]) -> str:
    return "".join(words).replace("-", "")


def _are_similar(gold: str, form: str) -> bool:
    return gold[:1] == form[:1] and len(gold) > 3 and SequenceMatcher(None, gold, form).ratio() >= TYPO


def _unmarked(part: str) -> str:
    return re.sub(r"\bp?v:", "", part)


def _unnumbered(key: str) -> str:
    return re.sub(r":\d+$", "", key)
