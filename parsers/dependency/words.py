"""Tells what single words of a tree are, and makes the labels of objects and verbs.

The functions look at a word, its head, its children, the words next to it and the word lists, and at nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from spacy.tokens import Token

from parsers.dependency import lexicon
from parsers.tokens import MODIFIERS, NOUNS

VERBS = frozenset(("VERB", "AUX"))
PARTICIPLES = frozenset(("VBG", "VBN"))
RELATIVE_PRONOUNS = frozenset(("WDT", "WP"))
CLAUSES = frozenset(("acl", "relcl"))
DETERMINERS = frozenset(("det", "poss"))
SUBJECTS = frozenset(("nsubj", "nsubjpass"))
COMPLEMENTS = frozenset(("dobj", "prep", "agent", "xcomp", "ccomp", "acomp", "oprd", "attr", "prt", "pcomp"))


def is_word(token: Token) -> bool:
    """Tells whether the token has a letter or a digit."""
    return any(character.isalnum() for character in token.text)


def is_verb(token: Token) -> bool:
    """Tells whether the token is a verb, or a noun that is one in captions: "polar bear swimming in water"."""
    return token.pos_ in VERBS or (token.pos_ in NOUNS and token.lower_ in lexicon.ACTIONS)


def is_wearable(noun: Token) -> bool:
    """Tells whether the noun is clothing."""
    return noun.lower_ == "glasses" or noun.lemma_.lower() in lexicon.WEARABLES


def is_before_hyphen(word: Token) -> bool:
    """Tells whether the word is the "chain" of "chain-link"."""
    if word.whitespace_ or word.i + 2 >= len(word.doc):
        return False
    return word.nbor().text == "-" and not word.nbor().whitespace_


def split_hyphenated(word: Token) -> list[Token]:
    """Returns the word and what a hyphen joins to it on the left: three tokens for the "link" of "chain-link"."""
    start = word.i
    while start >= 2 and is_before_hyphen(word.doc[start - 2]):
        start -= 2
    return list(word.doc[start : word.i + 1])


def is_name_part(word: Token) -> bool:
    """Tells whether a word before a noun belongs to the noun's name; if not, it is an attribute."""
    if word.lower_ in lexicon.NAME_ADJECTIVES:
        return word.dep_ in MODIFIERS
    is_noun = word.pos_ in NOUNS and word.dep_ in ("compound", "nmod")
    return is_noun and is_word(word) and not _is_attribute_noun(word)


def has_name_behind(noun: Token) -> bool:
    """Tells whether the tree hangs a name's last noun on this first one: the "hydrant" on the "fire"."""
    if noun.i + 1 == len(noun.doc) or noun.pos_ not in NOUNS:
        return False
    after = noun.nbor()
    if after.lower_ in lexicon.NAME_ENDS:
        return noun.head != after or after.pos_ not in NOUNS
    return after.pos_ in NOUNS and after.dep_ in MODIFIERS and after.head == noun


def _is_attribute_noun(word: Token) -> bool:
    return word.lower_ in lexicon.NOUN_ATTRIBUTES or word.lower_ in lexicon.COLOURS or len(split_hyphenated(word)) > 1


def is_owner(word: Token) -> bool:
    """Tells whether the next noun is a part of this one: the "tree" in "tree branch"."""
    is_kind = word.pos_ == "NOUN" and word.dep_ == "compound" and word.head.i == word.i + 1
    return is_kind and word.head.lemma_ in lexicon.PARTS and not _is_attribute_noun(word)


def is_shade(word: Token) -> bool:
    """Tells whether the word is the "dark" of "dark green" or "dark haired"."""
    if word.i + 1 == len(word.doc):
        return False
    after = word.nbor()
    if after.lower_ in lexicon.ADJECTIVE_ENDS and after.dep_ in MODIFIERS:
        return word.pos_ in ("ADJ", "NOUN", "NUM")
    return word.lower_ in lexicon.SHADES and after.lower_ in lexicon.COLOURS


def lacks_object(verb: Token) -> bool:
    """Tells whether a relative clause has a subject of its own and no object: "the shirt he wears"."""
    children = list(verb.children)
    has_subject = any(child.dep_ == "nsubj" and child.tag_ not in RELATIVE_PRONOUNS for child in children)
    is_full = any(child.dep_ in COMPLEMENTS or child.dep_ == "advmod" for child in children)
    return verb.pos_ == "VERB" and has_subject and not is_full


def join_name(words: Sequence[Token]) -> str:
    """Returns an object's label: its words in lower case, the last one as its lemma."""
    before = "".join(word.text_with_ws for word in words[:-1])
    lemma = words[-1].lemma_.lower()
    return f"{before}{lexicon.NOUN_FORMS.get(lemma, lemma)}".lower()


def label_verb(verb: Token, preposition: Sequence[Token] = ()) -> tuple[str, list[Token]]:
    """Returns the label of a verb with its particles, and the words that it stands for.

    For "looking" in "looking up at a kite", these are "look up" and the tokens "looking" and "up".

    Args:
        verb: a verb, or a noun that stands for an action.
        preposition: words of a preposition whose label the caller puts behind this one. If a particle of the verb is
            among them, it is left out here, so that it does not stand in the label twice.
    """
    lemma = lexicon.ACTIONS.get(verb.lower_, verb.lemma_.lower())
    particles = [child for child in verb.children if child.dep_ == "prt" and child not in preposition]
    return " ".join((lexicon.VERB_FORMS.get(lemma, lemma), *(p.lower_ for p in particles))), [verb, *particles]
