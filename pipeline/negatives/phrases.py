"""The noun phrases of a caption: where they begin, what number they have, and which pronouns go with them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from parsers.graph import SceneGraph
from parsers.neural.nouns import MEN, WOMEN
from pipeline.negatives.grammar import is_many
from pipeline.negatives.picture import normalize

ARTICLES = frozenset(("a", "an"))
_SINGULAR = ARTICLES | {"one", "another", "each", "every", "this"}
_DETERMINERS = _SINGULAR | {
    *("the", "some", "his", "her", "their", "its", "my", "your", "our", "these", "those"),
    *("few", "several", "many", "two", "three", "four", "five", "six"),
}
_WORD = re.compile(r"[A-Za-z]+")
_MENTIONS = frozenset(
    (
        *("it", "its", "itself", "they", "them", "their", "theirs", "who", "which"),
        *("he", "him", "his", "himself", "she", "her", "hers", "herself"),
    )
)
"""Words that speak of an object again without naming it."""
_PRONOUNS = re.compile(r"\b(?:he|she|him|himself|herself|his|hers|her)\b", re.IGNORECASE)
_SHARED = re.compile(
    r"(?:\s|,|&|\b(?:and|or|with|a|an|the|some|his|her|their|its|one|two|another|plus)\b)*", re.IGNORECASE
)
_LONGER_NAME = re.compile(r"-| ?(?:back|drawn|statue|sculpture|shaped|print|themed)\b", re.IGNORECASE)
"""What makes another thing of an object before it: a horse-drawn carriage, a giraffe statue."""
_NOT_POSSESSIVE = re.compile(
    r"\s*(?:$|[^\sA-Za-z]|(?:in|on|at|with|by|and|while|as|to|from|near|behind|up|down|for)\b)"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """An object with the words before it that belong to it."""

    start: int
    """where the adjectives begin, or else the name"""
    plural: bool
    determiner: str | None
    """the word that says which or how many, in lower case"""


def find_phrase(graph: SceneGraph, number: int) -> Phrase:
    """Finds the noun phrase of an object.

    In "two old men on a bench" the phrase of the men begins at "old", and its determiner is "two".
    """
    item = graph.objects[number]
    caption = graph.caption
    others = [s.end for n, o in enumerate(graph.objects) if n != number for s in o.spans]
    others += [s.end for r in graph.relations for s in r.spans]
    first = max((end for end in others if end <= item.span.start), default=0)
    words = [word.lower() for word in _WORD.findall(caption[first : item.span.start])]
    words = words[len(words) - words[::-1].index("of") :] if "of" in words else words  # "a group of" says nothing here
    determiner = next((word for word in reversed(words) if word in _DETERMINERS), None)
    name = _WORD.findall(caption[item.span.start : item.span.end].lower())
    plural = determiner not in _SINGULAR and bool(name) and is_many(name[-1])
    start = item.span.start
    for attribute in sorted(graph.attributes, key=lambda a: -a.span.end):
        between = caption[attribute.span.end : start]
        belongs = attribute.object == number and attribute.span.end <= start and not between.strip(" ,")
        if belongs and not is_count(caption[attribute.span.start : attribute.span.end]):
            start = attribute.span.start
    return Phrase(start, plural, determiner)


def is_count(text: str) -> bool:
    """Returns whether the words of an attribute count or measure: "two", "a group of"."""
    words = text.lower().split()
    return words[-1] == "of" or words[0] in _DETERMINERS or words[0].isdigit() or words[0] in ("couple", "several")


def is_modifier(graph: SceneGraph, number: int) -> bool:
    """Returns whether an object is the first part of a longer name, as the giraffe of a "giraffe statue"."""
    end = graph.objects[number].span.end
    if _LONGER_NAME.match(graph.caption[end:]):
        return True
    following = [o.span for o in graph.objects] + [a.span for a in graph.attributes if a.object == number]
    return any(
        span.start - end == 1
        and graph.caption[end] in " -"
        and not graph.caption[span.start : span.end].endswith(("ing", "ed"))
        for span in following
    )


def is_named_once(graph: SceneGraph, number: int, names: Collection[str]) -> bool:
    """Returns whether a caption names an object once, but for pronouns, and nothing else by one of its names."""
    item = graph.objects[number]
    said = f" {' '.join(normalize(graph.caption))} "
    others = [span for n, other in enumerate(graph.objects) for span in other.spans if n != number]
    return (
        sum(said.count(f" {' '.join(normalize(name))} ") for name in names) <= 1
        and all(graph.caption[m.start : m.end].lower() in _MENTIONS for m in item.mentions)
        and not any(span.start < item.span.end and item.span.start < span.end for span in others)
    )


def is_bare(graph: SceneGraph, phrase: Phrase) -> bool:
    """Returns whether a singular noun has no determiner in a caption that has articles: "topped with cheese"."""
    has_articles = not ARTICLES.isdisjoint(graph.caption.lower().split())
    return not phrase.plural and phrase.determiner is None and has_articles


def is_coordinated(graph: SceneGraph, first: int, second: int) -> bool:
    """Returns whether only "and", commas, articles and attributes stand between two objects."""
    low, high = sorted((graph.objects[first].span, graph.objects[second].span))
    between = list(graph.caption[low.end : high.start])
    for span in (*(a.span for a in graph.attributes), *(o.span for o in graph.objects)):
        for place in range(max(span.start, low.end), min(span.end, high.start)):
            between[place - low.end] = " "
    return bool(_SHARED.fullmatch("".join(between)))


# ------------------------------------------------------------------------------------------------------------- gender

_HIS = {"he": "she", "him": "her", "himself": "herself", "his": "her"}
_HERS = {"she": "he", "herself": "himself", "hers": "his"}


def gender_of(name: str) -> str | None:
    """Returns "he" or "she" for a name of men or women, else None."""
    last = name.rpartition(" ")[2]
    return "he" if last in MEN else "she" if last in WOMEN else None


def list_pronouns(caption: str) -> list[tuple[int, int, str]]:
    """Returns the pronouns of men and women: start, end and the pronoun in lower case."""
    return [(match.start(), match.end(), match[0].lower()) for match in _PRONOUNS.finditer(caption)]


def swap_gender(caption: str, end: int, pronoun: str) -> str:
    """Returns the pronoun of the other gender. "her" before a noun is "his", else "him".

    Args:
        caption: the caption.
        end: where the pronoun ends.
        pronoun: in lower case.
    """
    if pronoun == "her":
        return "him" if _NOT_POSSESSIVE.match(caption[end:]) else "his"
    return _HIS.get(pronoun) or _HERS[pronoun]
