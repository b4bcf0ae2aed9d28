"""Ties the triples of a gold graph to the words of their caption, because the network learns from words.

In FACTUAL, 98 to 99 of 100 objects and attributes and 92 of 100 relations are in the caption word by word, inflected or
misspelt. The rest is learned as labels ("two" is 2, "of" is have) or is missing from the aligned graph.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from parsers.gold import Triple, list_objects, remove_number
from parsers.graph import SceneGraph, Span
from parsers.lemmatizer import PARTS_OF_SPEECH, Lemmatizer
from parsers.neural.tokenizer import TokenizedCaption

NUMBERS = {
    "2": {"two", "pair", "couple", "both", "twin"}, "3": {"three", "trio"}, "4": {"four"}, "5": {"five"},
    "6": {"six"}, "7": {"seven"}, "8": {"eight"}, "9": {"nine"}, "10": {"ten"}, "12": {"twelve", "dozen"},
    "many": {"lots", "lot", "bunch", "several", "multiple"}, "several": {"many", "some", "few"},
}  # fmt: skip
"""The words that a number in a triple may stand for."""
STAND_INS = {
    "people": {"they", "them", "everyone", "others", "guys"}, "man": {"he", "him", "guy"},
    "woman": {"she", "her", "lady"}, "person": {"guy", "someone", "he", "she", "they"},
}  # fmt: skip
"""Names that FACTUAL's annotators wrote for other words."""
SILENT = frozenset(
    ("of", "'s", "with", "in", "on", "at", "has", "have", "having", "and", "by", "from", "for", "to", "wearing",
     "inside", "holding")
)  # fmt: skip
"""Words that a relation's label may stand for without containing them."""
LEAST_SIMILARITY = 0.8
"""Smallest similarity (`difflib`, 0 to 1) between a word and its misspelling."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """The numbers of the first and the last of some neighbouring words; the last word stands for the phrase."""

    first: int
    last: int

    def places(self) -> range:
        """Returns the numbers of all words in the phrase."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, slots=True)
class AlignedAttribute:
    """The words of an attribute, and the object that it belongs to."""

    phrase: Phrase
    object: int
    """the word that stands for the object"""
    label: str


@dataclass(frozen=True, slots=True)
class AlignedRelation:
    """A relation between two objects, given by the words that stand for them."""

    anchor: int
    """the last of ``words``, or the object if the caption has no word for the relation"""
    words: tuple[int, ...]
    """the words of the relation, rising"""
    subject: int
    object: int
    label: str


@dataclass(frozen=True, slots=True)
class AlignedGraph:
    """A graph whose nodes are words of a caption."""

    objects: tuple[tuple[Phrase, str], ...]
    """the words and the name of each object"""
    attributes: tuple[AlignedAttribute, ...]
    relations: tuple[AlignedRelation, ...]
    missing: tuple[Triple, ...]
    """the triples that could not be tied to words"""


def align_spans(words: TokenizedCaption, graph: SceneGraph) -> AlignedGraph:
    """Aligns a graph that another parser tied to the characters of the caption.

    Nodes that have no whole word, and relations that share a word with one of their objects, are left out.
    """
    phrases = {i: find_span(words, thing.span) for i, thing in enumerate(graph.objects)}
    objects = {phrase: graph.objects[i].lemma for i, phrase in phrases.items() if phrase is not None}
    attributes, relations = [], []
    for attribute in graph.attributes:
        phrase, noun = find_span(words, attribute.span), phrases[attribute.object]
        if phrase is not None and noun is not None and phrase.last != noun.last:
            attributes.append(AlignedAttribute(phrase, noun.last, attribute.lemma))
    for relation in graph.relations:
        subject, object_ = phrases[relation.subject], phrases[relation.object]
        if subject is not None and object_ is not None and subject.last != object_.last:
            found = filter(None, (find_span(words, span) for span in relation.spans))
            spoken = tuple(i for phrase in found for i in phrase.places())
            if subject.last not in spoken and object_.last not in spoken:
                anchor = spoken[-1] if spoken else object_.last
                relations.append(AlignedRelation(anchor, spoken, subject.last, object_.last, relation.lemma))
    return AlignedGraph(tuple(objects.items()), tuple(attributes), tuple(relations), ())


def find_span(words: TokenizedCaption, span: Span) -> Phrase | None:
    """Returns the words that lie whole in the span, from the first to the last; None if there are none."""
    inside = [i for i, (start, end) in enumerate(words.offsets) if span.start <= start and end <= span.end]
    return Phrase(inside[0], inside[-1]) if inside else None


class Aligner:
    """Finds the words of gold triples.

    In "two dogs sitting on a red mat" (words 0 to 6) with the triples (dogs, is, 2), (dogs, v:sit on, mat) and
    (mat, is, red), the objects are "dogs", word 1, and "mat", word 6. The attribute 2 is word 0, since `NUMBERS` has
    "two" for it, and "red" is word 5. The relation "sit on" is words 2 and 3: "on" is looked for first, between the
    objects, and then a form of "sit" before it. Word 3 is its anchor.

    Args:
        lemmatizer: tells which words are forms of each other.
    """

    def __init__(self, lemmatizer: Lemmatizer) -> None:
        self._lemmatizer = lemmatizer

    def __call__(self, words: TokenizedCaption, triples: Iterable[Triple]) -> AlignedGraph:
        """Aligns one graph.

        Args:
            words: the caption.
            triples: the gold graph. Objects may be numbered ("tree:1") and verbs marked ("v:hold"), as in FACTUAL's
                files with ids.
        """
        triples = [tuple(map(_remove_mark, triple)) for triple in triples]
        forms = words.forms
        phrases = self._find_objects(forms, triples)
        attributes, relations, missing = [], [], []
        for triple in triples:
            nouns = [phrase for key in list_objects(triple) if (phrase := phrases[key]) is not None]
            if len(nouns) < len(list_objects(triple)):
                missing.append(triple)
            elif len(nouns) == 2:
                subject, object_ = nouns
                if subject != object_:
                    relations.append(self.align_relation(forms, triple[1], subject, object_))
            elif len(triple) == 3:
                (noun,) = nouns
                found = self._find_attribute(forms, triple[2], noun)
                if found is None:
                    missing.append(triple)
                else:
                    attributes.append(AlignedAttribute(found, noun.last, triple[2]))
        objects = {phrase: remove_number(key) for key, phrase in phrases.items() if phrase is not None}
        return AlignedGraph(tuple(objects.items()), tuple(attributes), tuple(relations), tuple(missing))

    def _find_objects(self, forms: Sequence[str], triples: Iterable[Triple]) -> dict[str, Phrase | None]:
        keys: dict[str, None] = {}
        for triple in triples:
            keys |= dict.fromkeys(list_objects(triple))
        phrases: dict[str, Phrase | None] = {}
        # Longer names come first: if "tree" and "tree trunk" are both objects, "tree" is another word.
        for key in sorted(keys, key=lambda key: (-len(key.split()), key)):
            taken = {i for phrase in phrases.values() if phrase for i in phrase.places()}
            found = self.find_phrases(forms, remove_number(key).split())
            free = [phrase for phrase in found if phrase.last not in taken]
            phrases[key] = next(iter(free or found), None)
        return {key: phrases[key] for key in keys}

    def _find_attribute(self, forms: Sequence[str], label: str, noun: Phrase) -> Phrase | None:
        """Returns the nearest phrase outside the noun; one behind the noun counts as twice as far away."""
        found = self.find_phrases(forms, label.split())
        found = [phrase for phrase in found if not noun.first <= phrase.last <= noun.last] or found
        return min(
            found, key=lambda p: noun.last - p.last if p.last <= noun.last else 2 * (p.last - noun.last), default=None
        )

    def find_phrases(self, forms: Sequence[str], name: Sequence[str]) -> list[Phrase]:
        """Returns where the words of ``name`` stand next to each other: equal, else inflected, else misspelt."""
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
        return (self.find_phrases(forms, tokens) if len(tokens) > length else []) or self._find_letters(forms, name)

    def _find_letters(self, forms: Sequence[str], name: Sequence[str]) -> list[Phrase]:
        """Returns where the same letters are cut into one word more or less: "cell phone" for "cellphone"."""
        letters = _join_letters(name)
        return [
            Phrase(i, i + length - 1)
            for length in (len(name) + 1, len(name) - 1)
            for i in range(len(forms) - length + 1)
            if length and self._are_forms(letters, _join_letters(forms[i : i + length]))
        ]

    def align_relation(self, forms: Sequence[str], label: str, subject: Phrase, object_: Phrase) -> AlignedRelation:
        """Finds the words of a relation between two objects whose words are known."""
        found = self._find_label(forms, label, subject, object_)
        words = tuple(sorted(found))
        return AlignedRelation(words[-1] if words else object_.last, words, subject.last, object_.last, label)

    def _find_label(self, forms: Sequence[str], label: str, subject: Phrase, object_: Phrase) -> list[int]:
        """Returns the words of a relation: those of its label, else a silent one, else none."""
        names = {*subject.places(), *object_.places()}
        if subject.last < object_.first:
            low, high = subject.last, object_.first
        else:
            low, high = object_.last, subject.first
        free = [i for i in range(len(forms)) if i not in names]
        # Words between the objects come first, from the last to the first; then the words nearest to the objects.
        free.sort(key=lambda i: (not low < i < high, -i if low < i < high else min(abs(i - low), abs(i - high))))
        found: list[int] = []
        for word in reversed(label.split()):
            match = self._find_word(forms, word, _order_by_distance(free, found), range(low + 1, high))
            if match is not None:
                found.append(match)
        if found:
            return found
        silent = [i for i in range(low + 1, high) if i not in names and forms[i] in SILENT]
        if not silent and label == "have":
            silent = [i for i in free if forms[i] in ("of", "'s", "with")]
        return silent[:1]

    def _find_word(
        self, forms: Sequence[str], word: str, places: Sequence[int], between: Collection[int]
    ) -> int | None:
        """Returns the first place of the word, of an inflected form, or of a misspelt form between the objects."""
        match = next((i for i in places if forms[i] == word), None)
        if match is None:
            match = next((i for i in places if self._are_forms(word, forms[i])), None)
        if match is None:
            match = next((i for i in places if i in between and _are_similar(word, forms[i])), None)
        return match

    def _are_forms(self, gold: str, form: str) -> bool:
        if form in NUMBERS.get(gold, ()) or form in STAND_INS.get(gold, ()):
            return True
        return bool(self._list_lemmas(gold) & self._list_lemmas(form))

    def _list_lemmas(self, word: str) -> set[str]:
        return {word}.union(*(self._lemmatizer.lemmas(word, pos) for pos in PARTS_OF_SPEECH))


def _order_by_distance(free: Sequence[int], found: Sequence[int]) -> list[int]:
    """Returns the free places before the word that was found last, or else all free ones; the nearest to it first."""
    if not found:
        return list(free)
    last = found[-1]
    places = [i for i in free if i not in found and i < last] or [i for i in free if i not in found]
    return sorted(places, key=lambda i: abs(i - last))


def _join_letters(words: Sequence[str]) -> str:
    return "".join(words).replace("-", "")


def _are_similar(gold: str, form: str) -> bool:
    return gold[:1] == form[:1] and len(gold) > 3 and SequenceMatcher(None, gold, form).ratio() >= LEAST_SIMILARITY


def _remove_mark(part: str) -> str:
    return re.sub(r"\bp?v:", "", part)
