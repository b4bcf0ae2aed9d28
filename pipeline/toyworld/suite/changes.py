"""Changes a caption: swaps or replaces what it names, in its words and in its claims alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from pipeline.toyworld.captions import ADJECTIVES, WORDINGS, Claim, Mention, ToyCaption
from pipeline.toyworld.scene import VALUES, AttributeName, Related, Thing, ToyRelation

T = TypeVar("T")

Kind = Literal["swap_obj", "swap_att", "replace_obj", "replace_att", "replace_rel"]
"""What is changed, by SugarCrepe's names."""


class NotChangeable(Exception):
    """This caption offers nothing for the change that was tried."""


@dataclass(frozen=True, slots=True)
class Change:
    """A changed caption."""

    caption: ToyCaption
    toys: tuple[Thing, ...]
    """the things of the scene, changed as the caption is"""


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words of a caption, and the claims that they make."""

    start: int
    end: int
    claims: tuple[int, ...]
    """the numbers of the claims: one mention, or a relation with one claim for each subject"""


def change(kind: Kind, caption: ToyCaption, toys: Sequence[Thing], rng: np.random.Generator) -> Change:
    """Returns the caption with one change of a kind, drawn at random, and the things that fit it.

    Raises:
        NotChangeable: the caption has nothing of this kind.
    """
    return CHANGES[kind](caption, tuple(toys), rng)


def _one_of(options: Sequence[T], rng: np.random.Generator) -> T:
    if not options:
        raise NotChangeable
    return options[int(rng.integers(len(options)))]


# ------------------------------------------------------------------------------------------------------------- phrases


def _find_phrases(caption: ToyCaption) -> list[_Phrase]:
    """Finds the words of the mentions and relations, which make their claims in the order of the words."""
    phrases: list[_Phrase] = []
    end = 0
    for number, claim in enumerate(caption.claims):
        before = phrases[-1] if phrases else None
        if isinstance(claim, Mention):
            options = [_name(claim)]
        elif isinstance(claim, Related):
            if before is not None and isinstance(caption.claims[before.claims[0]], Related):  # of another subject
                phrases[-1] = replace(before, claims=(*before.claims, number))
                continue
            options = [
                words
                for wording in WORDINGS[claim.relation]
                for words in (wording.singular, wording.plural, wording.bare)
            ]
        else:
            continue
        start, end = _find_first(options, caption.text, end)
        phrases.append(_Phrase(start, end, (number,)))
    return phrases


def _find_first(options: Sequence[str], text: str, start: int) -> tuple[int, int]:
    """Returns where the first of some words stands; of those that begin together, the longest."""
    longest_first = sorted(options, key=len, reverse=True)
    found = re.compile(rf"\b(?:{'|'.join(longest_first)})\b").search(text, start)
    assert found is not None, f"{text!r} has none of {options} after character {start}"
    return found.span()


def _name(mention: Mention) -> str:
    return " ".join(value for _, value in mention.words) + ("s" if len(mention.things) > 1 else "")


def _rewrite(caption: ToyCaption, new: Mapping[_Phrase, tuple[str, Sequence[Claim]]]) -> ToyCaption:
    """Returns the caption with other words and claims for some phrases."""
    text, claims = caption.text, list(caption.claims)
    for phrase in sorted(new, key=lambda phrase: phrase.start, reverse=True):
        words, made = new[phrase]
        text = text[: phrase.start] + words + text[phrase.end :]
        for number, claim in zip(phrase.claims, made, strict=True):
            claims[number] = claim
    return ToyCaption(text, tuple(claims))


def _mentions(caption: ToyCaption) -> list[tuple[_Phrase, Mention]]:
    found = ((phrase, caption.claims[phrase.claims[0]]) for phrase in _find_phrases(caption))
    return [(phrase, claim) for phrase, claim in found if isinstance(claim, Mention)]


def _rename(caption: ToyCaption, new: Sequence[tuple[_Phrase, Mention]]) -> ToyCaption:
    return _rewrite(caption, {phrase: (_name(mention), [mention]) for phrase, mention in new})


# ------------------------------------------------------------------------------------------------------------- changes


def _swap_objects(caption: ToyCaption, toys: tuple[Thing, ...], rng: np.random.Generator) -> Change:
    """The red cube is behind the ball. -> The ball is behind the red cube."""
    alone = {mention.things[0]: (phrase, mention) for phrase, mention in _mentions(caption) if len(mention.things) == 1}
    related = [c for c in caption.claims if isinstance(c, Related) and c.subject in alone and c.object in alone]
    chosen = _one_of(related, rng)
    (first, subject), (second, object) = alone[chosen.subject], alone[chosen.object]
    swapped = [(first, replace(subject, words=object.words)), (second, replace(object, words=subject.words))]
    return Change(_rename(caption, swapped), toys)


def _swap_attributes(caption: ToyCaption, toys: tuple[Thing, ...], rng: np.random.Generator) -> Change:
    """A red cube and a blue ball -> a blue cube and a red ball"""
    alone = [(phrase, mention) for phrase, mention in _mentions(caption) if len(mention.things) == 1]
    pairs = [
        (attribute, one, other)
        for number, one in enumerate(alone)
        for other in alone[number + 1 :]
        for attribute in ADJECTIVES
        if len({None, _said(one[1], attribute), _said(other[1], attribute)}) == 3
    ]
    attribute, (first, one), (second, other) = _one_of(pairs, rng)
    renamed = [
        (first, _with_value(one, attribute, dict(other.words)[attribute])),
        (second, _with_value(other, attribute, dict(one.words)[attribute])),
    ]
    return Change(_rename(caption, renamed), _fit(toys, [mention for _, mention in renamed]))


def _replace_object(caption: ToyCaption, toys: tuple[Thing, ...], rng: np.random.Generator) -> Change:
    """The cube is behind the ball. -> The cube is behind the star."""
    phrase, mention = _one_of(_mentions(caption), rng)
    return _replace_value(caption, toys, phrase, mention, "shape", rng)


def _replace_attribute(caption: ToyCaption, toys: tuple[Thing, ...], rng: np.random.Generator) -> Change:
    """A red cube and a ball -> a green cube and a ball"""
    said = [(phrase, mention, a) for phrase, mention in _mentions(caption) for a, _ in mention.words if a != "shape"]
    phrase, mention, attribute = _one_of(said, rng)
    return _replace_value(caption, toys, phrase, mention, attribute, rng)


def _replace_value(
    caption: ToyCaption,
    toys: tuple[Thing, ...],
    phrase: _Phrase,
    mention: Mention,
    attribute: AttributeName,
    rng: np.random.Generator,
) -> Change:
    value = _one_of([v for v in VALUES[attribute] if v != _said(mention, attribute)], rng)
    renamed = _with_value(mention, attribute, value)
    return Change(_rename(caption, [(phrase, renamed)]), _fit(toys, [renamed]))


def _replace_relation(caption: ToyCaption, toys: tuple[Thing, ...], rng: np.random.Generator) -> Change:
    """The cube is behind the ball. -> The cube is touching the ball."""
    phrases = [phrase for phrase in _find_phrases(caption) if isinstance(caption.claims[phrase.claims[0]], Related)]
    phrase = _one_of(phrases, rng)
    claims = [claim for number in phrase.claims if isinstance(claim := caption.claims[number], Related)]
    said = caption.text[phrase.start : phrase.end]
    form = next(
        form
        for form in ("singular", "plural", "bare")
        if said in {getattr(wording, form) for wording in WORDINGS[claims[0].relation]}
    )
    relation = _one_of([relation for relation in ToyRelation if relation is not claims[0].relation], rng)
    words = getattr(_one_of(WORDINGS[relation], rng), form)
    return Change(_rewrite(caption, {phrase: (words, [replace(c, relation=relation) for c in claims])}), toys)


def _said(mention: Mention, attribute: AttributeName) -> str | None:
    return dict(mention.words).get(attribute)


def _with_value(mention: Mention, attribute: AttributeName, value: str) -> Mention:
    return replace(mention, words=tuple((a, value if a == attribute else v) for a, v in mention.words))


def _fit(toys: tuple[Thing, ...], mentions: Sequence[Mention]) -> tuple[Thing, ...]:
    """Returns the things with the values that the mentions name. What has changed has no place yet."""
    changed = list(toys)
    for mention in mentions:
        for number in mention.things:
            thing, said = changed[number], dict(mention.words)
            shape, colour, material, size = (said.get(attribute, thing.value(attribute)) for attribute in VALUES)
            changed[number] = Thing(shape, colour, material, size)
    return tuple(changed)


CHANGES: Mapping[Kind, Callable[[ToyCaption, tuple[Thing, ...], np.random.Generator], Change]] = {
    "swap_obj": _swap_objects,
    "swap_att": _swap_attributes,
    "replace_obj": _replace_object,
    "replace_att": _replace_attribute,
    "replace_rel": _replace_relation,
}
