"""The forms of English words: number of nouns, forms of verbs, articles."""

from __future__ import annotations

import re

from parsers.neural.nouns import is_plural, make_plural, singularize
from parsers.verbs import find_verbs

IRREGULAR = {
    "catch": "caught", "feed": "fed", "fight": "fought", "kneel": "knelt", "sell": "sold", "sit": "sat",
    "sleep": "slept", "stand": "stood",
    **dict.fromkeys(("bite", "break", "eat", "fall", "fly", "hide", "lie", "ride", "run", "swim", "tear", "throw")),
}  # fmt: skip
"""The past of the irregular verbs that the lexicon puts into captions; None where the participle is another form."""
_PAIRS = frozenset(("jeans", "pants", "shorts", "scissors", "glasses", "sunglasses", "goggles", "trousers"))
"""Nouns without a singular; "glasses" are often those of the eyes."""
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_VOWEL = re.compile(r"hour|heir|honest|[aio](?!ne\b|nce\b|ne-)|e(?!u|we)|u(?!ni|ri|s[aeu]|ti|ke)", re.IGNORECASE)
"""The beginning of words that begin with the sound of a vowel."""
_DOUBLED = re.compile(r"[^aeiou][aeiou][bdgmnprt]$")
"""The end of a verb whose last letter is doubled: "sit", "stop". The verbs of the lexicon have one syllable there."""


def inflect_noun(name: str, *, plural: bool) -> str | None:
    """Returns a name of things in the singular or the plural, or None if it has no such form.

    Args:
        name: one or several words, in lower case; the last one is inflected.
        plural: whether it should speak of several things.
    """
    *before, last = name.split()
    if is_many(last) != plural:
        if last in _PAIRS:
            return None
        last = make_plural(last) if plural else singularize(last)
        if not plural and is_many(last):
            return None
    return " ".join([*before, last])


def is_many(noun: str) -> bool:
    """Returns whether a noun in lower case takes the verb of several things, as a pair of trousers does."""
    return noun in _PAIRS or is_plural(noun)


def inflect_verb(verb: str, form: str) -> str | None:
    """Returns a verb in the form that a form of another verb has, or None if that form is not clear.

    "throw" in the form of "holding" is "throwing", in the form of "holds" it is "throws". What is no verb stays.

    Args:
        verb: an infinitive in lower case; words after it stay.
        form: a form of another verb.
    """
    verb, space, rest = verb.partition(" ")
    if not find_verbs(verb):
        return f"{verb}{space}{rest}"
    inflected = _inflect(verb, form)
    return None if inflected is None else f"{inflected}{space}{rest}"


def _inflect(verb: str, form: str) -> str | None:
    if form.endswith("ing"):
        if verb.endswith("ie"):
            return verb[:-2] + "ying"
        if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
            return verb[:-1] + "ing"
        return verb + verb[-1] * _is_doubled(verb) + "ing"
    if form in find_verbs(form):
        return verb
    if form.endswith("s"):
        if verb.endswith("y") and verb[-2] not in "aeiou":
            return verb[:-1] + "ies"
        return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
    if form.endswith("ed") or form in ("held", "sat", "stood", "lay", "hung"):
        if verb in IRREGULAR:  # "broke" or "broken"? Only a form that serves for both is safe.
            return IRREGULAR[verb]
        if verb.endswith("e"):
            return verb + "d"
        if verb.endswith("y") and verb[-2] not in "aeiou":
            return verb[:-1] + "ied"
        return verb + verb[-1] * _is_doubled(verb) + "ed"
    return None


def _is_doubled(verb: str) -> bool:
    return bool(_DOUBLED.search(verb)) and len(re.findall("[aeiou]+", verb)) == 1


def find_article(before: str) -> tuple[int, str] | None:
    """Returns where the indefinite article at the end of a text begins, and the article; None if there is none."""
    match = _ARTICLE.search(before)
    return None if match is None else (match.start(1), match[1])


def choose_article(following: str) -> str:
    """Returns "a" or "an", whichever fits the text that follows."""
    return "an" if _VOWEL.match(following) else "a"


def match_case(text: str, like: str) -> str:
    """Returns a text in lower case with capital letters where the text that it replaces has them."""
    if like.isupper() and len(like) > 1:
        return text.upper()
    return text[:1].upper() + text[1:] if like[:1].isupper() else text
