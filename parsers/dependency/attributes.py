"""The attributes of a caption: which words give an object a property, and what the property is called."""

from __future__ import annotations

from collections.abc import Container

from spacy.tokens import Token

from parsers.dependency import lexicon
from parsers.dependency.objects import ObjectReader
from parsers.dependency.words import (
    CLAUSES,
    COMPLEMENTS,
    PARTICIPLES,
    is_before_hyphen,
    is_shade,
    is_word,
    split_hyphenated,
)
from parsers.tokens import MODIFIERS, NOUNS


def find_described(token: Token, objects: ObjectReader, used: Container[int]) -> list[Token]:
    """Returns the heads of the objects that ``token`` gives a property to; there are none if it is no attribute.

    Args:
        objects: the objects of the caption.
        used: the indices of the words of relations; they are no attributes.
    """
    if objects.is_in_name_or_preposition(token) or token.i in used or not is_word(token):
        return []
    if token.lower_ in lexicon.NOT_ATTRIBUTES or is_before_hyphen(token) or is_shade(token):
        return []
    if token.lemma_.lower() in lexicon.PORTIONS and objects.find_wrapped(token):
        return objects.find_things(token)
    first = token
    while first.dep_ == "conj" and (first.head.pos_ not in NOUNS or first.head.lower_ in lexicon.COLOURS):
        first = first.head  # black and white
    if first.dep_ in ("acomp", "oprd") or (first.dep_ == "attr" and first.lower_ in lexicon.COLOURS):
        return objects.find_subjects(first.head) if first.head.lemma_ in lexicon.STATE_VERBS else []
    if first.dep_ in MODIFIERS or first.dep_ == "nummod":
        return objects.find_modified(first)
    if token.tag_ in PARTICIPLES and (token.dep_ in CLAUSES or token.dep_ in ("ROOT", "conj")):
        # "a man smiling" is a smiling man, but not where a complement was too hard to read.
        return [] if any(child.dep_ in COMPLEMENTS for child in token.children) else objects.find_subjects(token)
    return []


def label_attribute(token: Token) -> tuple[str, list[Token]]:
    """Returns the label and the words of an attribute: "2" for "two", "dark green" for its last word."""
    portion = lexicon.PORTIONS.get(token.lemma_.lower())
    if portion:
        after = token.nbor()
        return portion, [token, after] if portion == f"{token.lower_} {after.lower_}" else [token]
    words = split_hyphenated(token)
    if words[0].i and is_shade(words[0].nbor(-1)):
        words = [words[0].nbor(-1), *words]
    lemma = "".join(word.text_with_ws for word in words).strip().lower()
    return lexicon.NUMBERS.get(lemma) or lexicon.NOUN_ATTRIBUTES.get(lemma, lemma), words
