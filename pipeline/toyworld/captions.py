"""Says true English sentences about a scene. Each caption has its claims with it, so that they can be checked.

A noun phrase always picks out what it names: "the red cube" is said only if there is exactly one red cube, and "two
cubes" only if there are exactly two.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from math import prod
from typing import TypeVar

import numpy as np

from pipeline.toyworld.scene import AttributeName, Related, Scene, ToyRelation

T = TypeVar("T")

MAX_WORDS = 20
"""the longest caption that is said"""


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun phrase. Its words fit ``things`` and nothing else in the scene."""

    things: tuple[int, ...]
    words: tuple[tuple[AttributeName, str], ...]


@dataclass(frozen=True, slots=True)
class Predicated:
    """A claim that each of ``things`` has this value, as in "the cone is green"."""

    things: tuple[int, ...]
    attribute: AttributeName
    value: str


Claim = Mention | Predicated | Related


@dataclass(frozen=True, slots=True)
class ToyCaption:
    """A caption and everything that it claims, in the order of its words."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Wording:
    """The words for a relation after one thing, after several things, and without a finite verb."""

    singular: str
    plural: str
    bare: str


def _place(*phrases: str) -> tuple[Wording, ...]:
    return tuple(Wording(f"is {phrase}", f"are {phrase}", phrase) for phrase in phrases)


def _act(third_person: str, infinitive: str, participle: str) -> tuple[Wording, ...]:
    return Wording(f"is {participle}", f"are {participle}", participle), Wording(third_person, infinitive, participle)


WORDINGS: Mapping[ToyRelation, tuple[Wording, ...]] = {
    ToyRelation.LEFT_OF: _place("to the left of", "left of"),
    ToyRelation.RIGHT_OF: _place("to the right of", "right of"),
    ToyRelation.NEXT_TO: _place("next to", "near"),
    ToyRelation.ABOVE: _place("above"),
    ToyRelation.BELOW: _place("below", "under"),
    ToyRelation.IN_FRONT_OF: _place("in front of"),
    ToyRelation.BEHIND: _place("behind"),
    ToyRelation.COVERING: _act("covers", "cover", "covering"),
    ToyRelation.COVERED_BY: _place("covered by"),
    ToyRelation.RESTING_ON: (*_act("rests on", "rest on", "resting on"), *_place("carried by", "on top of")),
    ToyRelation.CARRYING: _act("carries", "carry", "carrying"),
    ToyRelation.TOUCHING: (*_act("touches", "touch", "touching"), *_place("touched by")),
    ToyRelation.LEANING_AGAINST: _act("leans against", "lean against", "leaning against"),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
ADJECTIVES: tuple[AttributeName, ...] = ("size", "colour", "material")
"""the adjectives, in the order in which they stand before the noun in English"""
ADJECTIVE_COUNTS = (0.18, 0.5, 0.22, 0.1)
"""how often a noun phrase tries to have 0, 1, 2 and 3 adjectives; it takes more if fewer do not pick out the thing"""
SALIENCE: Mapping[AttributeName, float] = {"shape": 1, "colour": 8, "material": 1, "size": 1}
"""People name a colour sooner than anything else, even if it is not needed to tell things apart."""


class _NotSayable(Exception):
    """This scene offers nothing for the sentence that was tried."""


def describe(scene: Scene, count: int, rng: np.random.Generator) -> list[ToyCaption]:
    """Says ``count`` different things about the scene, each in at most `MAX_WORDS` words."""
    looks = find_looks(scene)
    captions: dict[str, ToyCaption] = {}
    while len(captions) < count:
        sentence = list(SENTENCES)[_draw(list(SENTENCES.values()), rng)]
        speaker = _Speaker(scene, looks, rng)
        try:
            text = sentence(speaker)
        except _NotSayable:
            continue
        if len(text.split()) <= MAX_WORDS:
            captions.setdefault(text, ToyCaption(text, tuple(speaker.claims)))
    return list(captions.values())


Look = tuple[AttributeName, ...]
LOOKS: tuple[Look, ...] = tuple(look for size in range(4) for look in combinations(ADJECTIVES, size))


def find_looks(scene: Scene) -> dict[tuple[int, ...], list[Look]]:
    """Returns, for each set of things that a noun phrase can pick out, the adjectives that do so."""
    looks: dict[tuple[int, ...], list[Look]] = {}
    for look in LOOKS:
        alike: dict[tuple[str, ...], list[int]] = {}
        for i, thing in enumerate(scene.things):
            alike.setdefault((thing.shape, *(thing.value(attribute) for attribute in look)), []).append(i)
        for things in alike.values():
            looks.setdefault(tuple(things), []).append(look)
    return looks


def _draw(weights: Sequence[float], rng: np.random.Generator) -> int:
    """Draws an index with probabilities proportional to the weights."""
    thresholds = list(accumulate(weights))
    return bisect(thresholds, rng.random() * thresholds[-1])


class _Speaker:
    """Builds one caption: draws what to speak about, words it, and notes what was claimed."""

    def __init__(self, scene: Scene, looks: Mapping[tuple[int, ...], list[Look]], rng: np.random.Generator) -> None:
        self.scene = scene
        self._looks = looks
        self.claims: list[Claim] = []
        self._rng = rng
        self._article = "the" if self.chance(0.5) else "a"

    def chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def one_of(self, options: Sequence[T]) -> T:
        if not options:
            raise _NotSayable
        return options[int(self._rng.integers(len(options)))]

    def thing(self, other_than: Sequence[int] = ()) -> tuple[int]:
        return (self.one_of([i for i in range(len(self.scene.things)) if i not in other_than]),)

    def several(self) -> tuple[int, ...]:
        """Draws two or more things that share a name."""
        return self.one_of([things for things in self._looks if len(things) > 1])

    def relation(
        self, subject: tuple[int, ...] | None = None, other_than: Sequence[int] = ()
    ) -> tuple[tuple[int, ...], ToyRelation, tuple[int]]:
        """Draws a relation that holds. All kinds of relation that the scene has are equally likely."""
        kinds: dict[ToyRelation, list[Related]] = {}
        for related in self.scene.relations:
            if (
                (subject is None or related.subject == subject[0])
                and related.subject not in other_than
                and related.object not in other_than
            ):
                kinds.setdefault(related.relation, []).append(related)
        chosen = self.one_of(kinds[self.one_of(list(kinds))])
        return subject or (chosen.subject,), chosen.relation, (chosen.object,)

    def name(self, things: tuple[int, ...], most: int = 3, bare: bool = False, definite: bool | None = None) -> str:
        """Returns a noun phrase that fits only these things, with at most ``most`` adjectives; ``bare``: no article."""
        looks = [look for look in self._looks.get(things, ()) if len(look) <= most]
        if not looks:
            raise _NotSayable
        first = self.scene.things[things[0]]
        wanted = _draw(ADJECTIVE_COUNTS, self._rng)
        nearest = min(abs(len(look) - wanted) for look in looks)
        looks = [look for look in looks if abs(len(look) - wanted) == nearest]
        look = looks[_draw([prod(SALIENCE[a] for a in look) for look in looks], self._rng)]
        spoken: tuple[AttributeName, ...] = (*look, "shape")
        self.claims.append(Mention(things, tuple((a, first.value(a)) for a in spoken)))
        words = " ".join(first.value(a) for a in spoken)
        if len(things) > 1:
            return f"{'the ' if definite else ''}{NUMBERS[len(things)]} {words}s"
        if bare:
            return words
        the = self._article == "the" if definite is None else definite
        return f"{'the' if the else 'a'} {words}"

    def wording(self, subject: tuple[int, ...], relation: ToyRelation, object: tuple[int]) -> Wording:
        """Draws the words for a relation and claims it."""
        self.claims += [Related(i, relation, object[0]) for i in subject]
        return self.one_of(WORDINGS[relation])

    def predicate(self, things: tuple[int, ...]) -> str:
        """Returns an adjective that fits all of the things and that the last mention did not use."""
        toys = [self.scene.things[i] for i in things]
        last = self.claims[-1]
        assert isinstance(last, Mention)
        said = {attribute for attribute, _ in last.words}
        options: list[tuple[AttributeName, str]] = [
            (attribute, toys[0].value(attribute))
            for attribute in ("colour", "size", "material")
            if attribute not in said
            and len({toy.value(attribute) for toy in toys}) == 1
            and (attribute != "material" or toys[0].material == "wooden")
        ]
        if not options:
            raise _NotSayable
        attribute, value = options[_draw([SALIENCE[attribute] for attribute, _ in options], self._rng)]
        self.claims.append(Predicated(things, attribute, value))
        return value


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _one_thing(speaker: _Speaker) -> str:
    """A large red metal cube."""
    name = speaker.name(speaker.thing(), definite=False)
    return name if speaker.chance(0.5) else _sentence(f"there is {name}")


def _related_phrase(speaker: _Speaker) -> str:
    """a red cube behind the blue ball"""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject)
    words = speaker.wording(subject, relation, object).bare
    return f"{name} {words} {speaker.name(object)}"


def _there_is(speaker: _Speaker) -> str:
    """There is a red cube behind the blue ball."""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject, definite=False)
    words = speaker.wording(subject, relation, object).bare
    return _sentence(f"there is {name} {words} {speaker.name(object)}")


def _related(speaker: _Speaker) -> str:
    """The red cube is behind the blue ball."""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject)
    words = speaker.wording(subject, relation, object).singular
    return _sentence(f"{name} {words} {speaker.name(object)}")


def _predicated(speaker: _Speaker) -> str:
    """The cone is green. / The cone is green and the ball is small."""
    first = speaker.thing()
    text = f"{speaker.name(first, most=2, definite=True)} is {speaker.predicate(first)}"
    if speaker.chance(0.5):
        second = speaker.thing(other_than=first)
        text = f"{text} and {speaker.name(second, most=2, definite=True)} is {speaker.predicate(second)}"
    return _sentence(text)


def _coordinated(speaker: _Speaker) -> str:
    """a red cube and a blue ball / a red cube, a blue ball and a cone"""
    first = speaker.thing()
    second = speaker.thing(other_than=first)
    names = [speaker.name(first), speaker.name(second)]
    if speaker.chance(0.4):
        names.append(speaker.name(speaker.thing(other_than=(*first, *second)), most=1))
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _relative(speaker: _Speaker) -> str:
    """a cube that is behind the red ball"""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject)
    words = speaker.wording(subject, relation, object).singular
    return f"{name} {speaker.one_of(('that', 'which'))} {words} {speaker.name(object)}"


def _relative_and_predicate(speaker: _Speaker) -> str:
    """The cube that is behind the red ball is small."""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject, most=1, definite=True)
    adjective = speaker.predicate(subject)
    words = speaker.wording(subject, relation, object).singular
    return _sentence(f"{name} that {words} {speaker.name(object, definite=True)} is {adjective}")


def _several(speaker: _Speaker) -> str:
    """two small blue balls / There are two balls and a cone."""
    things = speaker.several()
    name = speaker.name(things)
    kind = speaker.one_of(("alone", "with another", "predicate"))
    if kind == "predicate":
        return _sentence(f"the {name} are {speaker.predicate(things)}")
    if kind == "with another":
        name = f"{name} and {speaker.name(speaker.thing(other_than=things), definite=False)}"
    return name if speaker.chance(0.5) else _sentence(f"there are {name}")


def _several_related(speaker: _Speaker) -> str:
    """two cubes next to the red ball / The two cubes are next to the red ball."""
    things = speaker.several()
    shared = [
        (related.relation, related.object)
        for related in speaker.scene.relations
        if related.subject == things[0]
        and related.object not in things
        and all(Related(i, related.relation, related.object) in speaker.scene.relations for i in things)
    ]
    relation, object = speaker.one_of(shared)
    finite = speaker.chance(0.5)
    name = speaker.name(things, definite=finite)
    wording = speaker.wording(things, relation, (object,))
    other = speaker.name((object,), definite=True)
    return _sentence(f"{name} {wording.plural} {other}") if finite else f"{name} {wording.bare} {other}"


def _twice_related(speaker: _Speaker) -> str:
    """The red cube is behind the ball and is to the left of the cone."""
    subject, relation, object = speaker.relation()
    name = speaker.name(subject, most=2)
    words = speaker.wording(subject, relation, object).singular
    first = f"{name} {words} {speaker.name(object, most=1)}"
    _, relation, object = speaker.relation(subject=subject, other_than=object)
    words = speaker.wording(subject, relation, object).singular
    return _sentence(f"{first} and {words} {speaker.name(object, most=1)}")


def _chained(speaker: _Speaker) -> str:
    """a red cube behind a ball that is under the star"""
    subject, relation, middle = speaker.relation()
    name = speaker.name(subject, most=2)
    words = speaker.wording(subject, relation, middle).bare
    first = f"{name} {words} {speaker.name(middle, most=1)}"
    _, relation, object = speaker.relation(subject=middle, other_than=subject)
    return f"{first} that {speaker.wording(middle, relation, object).singular} {speaker.name(object, most=1)}"


SENTENCES: Mapping[Callable[[_Speaker], str], float] = {
    _one_thing: 0.05,
    _related_phrase: 0.19,
    _there_is: 0.1,
    _related: 0.2,
    _predicated: 0.1,
    _coordinated: 0.07,
    _relative: 0.08,
    _relative_and_predicate: 0.07,
    _several: 0.05,
    _several_related: 0.07,
    _twice_related: 0.06,
    _chained: 0.06,
}
"""how often each sentence is tried"""
