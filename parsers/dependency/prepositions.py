"""Finds prepositions of one word or of several ("in front of"), and what stands on both sides of them in spaCy's tree.

A phrase is found by its words, because spaCy's trees break such phrases in many ways. The noun inside a phrase ("the
front", "the side") names a place and is no object.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spacy.tokens import Doc, Token

from parsers.dependency import lexicon
from parsers.tokens import MODIFIERS, NOUNS


@dataclass(frozen=True)
class Preposition:
    """One or several words between the word that they hang on (the governor) and the nouns that complete them."""

    words: tuple[Token, ...]
    lemma: str
    governor: Token
    nouns: tuple[Token, ...]

    def complements(self) -> list[Token]:
        """Returns all words that hang on the preposition: the nouns, and also the pronouns, which name nothing."""
        inside = {word.i for word in self.words}
        return [child for word in self.words for child in word.children if child.i not in inside]


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


FIXED_PHRASE = re.compile(rf"(?<!\S)(?:{_any_of(lexicon.FIXED_PHRASES)})(?!\S)")
PLACE_PHRASE = re.compile(
    rf"(?<!\S)(?:{_any_of(lexicon.PLACE_LEADS)}) (?:(?:{_any_of(lexicon.PLACE_DETAILS)}) )*?"
    rf"(?P<place>{_any_of(lexicon.PLACES)}) of(?!\S)"
)


def find_prepositions(doc: Doc) -> Iterator[Preposition]:
    """Yields all prepositions of a caption: first those of several words, then those that are single words.

    The first are phrases of the word lists, such as "in front of". The others are words that spaCy's tree calls
    prepositions and that are in none of these phrases. A word that has such a word as its head just before it ("from"
    in "out from") is yielded together with it.
    """
    starts, text = [], ""
    for token in doc:
        starts.append(len(text))
        text += token.lower_ + " "
    taken: set[int] = set()
    for match in (*PLACE_PHRASE.finditer(text), *FIXED_PHRASE.finditer(text)):
        words = doc[bisect_left(starts, match.start()) : bisect_left(starts, match.end())]
        if taken.isdisjoint(word.i for word in words):
            taken.update(word.i for word in words)
            yield _preposition(tuple(words), lexicon.FIXED_PHRASES.get(match[0]) or lexicon.PLACES[match["place"]])
    for token in doc:
        if token.i in taken or not (token.dep_ in ("prep", "agent") or (token.pos_ == "ADP" and token.dep_ != "prt")):
            continue
        before = token.head
        joined = before.pos_ == "ADP" and before.i == token.i - 1 and before.dep_ != "prt" and before.i not in taken
        words = (before, token) if joined else (token,)
        yield _preposition(words, " ".join(lexicon.PREPOSITION_FORMS.get(w.lower_, w.lower_) for w in words))


def _preposition(words: tuple[Token, ...], lemma: str) -> Preposition:
    inside = {word.i for word in words}
    governor = next((word.head for word in words if word.head.i not in inside), words[0])
    while governor.dep_ in ("prep", "conj") and governor.pos_ in ("ADP", "SCONJ"):
        governor = governor.head
    nouns = [child for word in words for child in word.children if child.dep_ == "pobj" and child.i not in inside]
    if not nouns and len(words) > 1:  # the tree broke the phrase: the next noun phrase completes it
        for word in words[0].doc[words[-1].i + 1 :]:
            if word.pos_ in NOUNS and word.dep_ not in MODIFIERS:
                nouns.append(word)
            if word.pos_ not in ("DET", "ADJ", "NUM", "NOUN", "PROPN") or nouns:
                break
    return Preposition(words, lemma, governor, tuple(nouns))
