"""Makes questions, choices and expressions about a scene, for the downstream tasks.

The words alone tell next to nothing about what is right: a true value competes with others that are as likely, and a
relation with its opposite. Questions about relations do not name sizes, because a small thing cannot cover a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from pipeline.toyworld.captions import ADJECTIVES, WORDINGS, Look, find_looks
from pipeline.toyworld.scene import COLOURS, MATERIALS, SHAPES, VALUES, AttributeName, Related, Scene, ToyRelation

T = TypeVar("T")

OPPOSITES: Mapping[ToyRelation, ToyRelation] = {
    ToyRelation.LEFT_OF: ToyRelation.RIGHT_OF,
    ToyRelation.RIGHT_OF: ToyRelation.LEFT_OF,
    ToyRelation.ABOVE: ToyRelation.BELOW,
    ToyRelation.BELOW: ToyRelation.ABOVE,
    ToyRelation.IN_FRONT_OF: ToyRelation.BEHIND,
    ToyRelation.BEHIND: ToyRelation.IN_FRONT_OF,
    ToyRelation.COVERING: ToyRelation.COVERED_BY,
    ToyRelation.COVERED_BY: ToyRelation.COVERING,
    ToyRelation.RESTING_ON: ToyRelation.CARRYING,
    ToyRelation.CARRYING: ToyRelation.RESTING_ON,
}
"""the relations that never hold in both directions, each with the one that holds the other way round"""
PLACELESS = (
    ToyRelation.COVERING,
    ToyRelation.COVERED_BY,
    ToyRelation.CARRYING,
    ToyRelation.TOUCHING,
    ToyRelation.LEANING_AGAINST,
)
"""the relations that are said without a word of place"""


class _View:
    """A scene, with the names of its things and with random numbers for choices."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene = scene
        self.things = scene.things
        self.rng = rng
        self._looks = find_looks(scene)

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def other(self, values: Sequence[str], value: str) -> str:
        return self.one_of([v for v in values if v != value])

    def nameable(self, adjectives: Sequence[AttributeName] = ()) -> list[int]:
        """Returns the things that a noun phrase with some of these adjectives picks out."""
        return [i for i in range(len(self.things)) if self._fitting(i, adjectives)]

    def name(self, thing: int, adjectives: Sequence[AttributeName] = ()) -> str:
        look = self.one_of(self._fitting(thing, adjectives))
        return " ".join(self.things[thing].value(attribute) for attribute in (*look, "shape"))

    def _fitting(self, thing: int, adjectives: Sequence[AttributeName]) -> list[Look]:
        return [look for look in self._looks.get((thing,), ()) if set(look) <= set(adjectives)]

    def related(self, relations: Sequence[ToyRelation], things: Sequence[int]) -> list[Related]:
        return [r for r in self.scene.relations if r.relation in relations and {r.subject, r.object} <= set(things)]


# ----------------------------------------------------------------------------------------------------------- questions

AnswerType = Literal["yes/no", "number", "other"]


@dataclass(frozen=True, slots=True)
class ToyQuestion:
    """A question with its right answer, and with wrong ones that somebody might give. ``form`` is how it begins."""

    text: str
    form: str
    answer: str
    wrong: tuple[str, ...]
    answer_type: AnswerType


def ask(scene: Scene, count: int, rng: np.random.Generator) -> list[ToyQuestion]:
    """Asks ``count`` different questions."""
    view = _View(scene, rng)
    forms, shares = list(FORMS), list(FORMS.values())
    questions: dict[str, ToyQuestion] = {}
    while len(questions) < count:
        question = forms[int(rng.choice(len(forms), p=shares))](view)
        if question is not None:
            questions.setdefault(question.text, question)
    return list(questions.values())


def _yes_or_no(text: str, form: str, yes: bool) -> ToyQuestion:
    answer, wrong = ("yes", "no") if yes else ("no", "yes")
    return ToyQuestion(text, form, answer, (wrong,), "yes/no")


def _other(text: str, form: str, answer: str, values: Sequence[str]) -> ToyQuestion:
    return ToyQuestion(text, form, answer, tuple(v for v in values if v != answer), "other")


def _which_colour(view: _View) -> ToyQuestion | None:
    """What color is the cube?"""
    things = view.nameable(("material", "size"))
    if not things:
        return None
    thing = view.one_of(things)
    text = f"What color is the {view.name(thing, ('material', 'size'))}?"
    return _other(text, "what color is the", view.things[thing].colour, COLOURS)


def _what_is_there(view: _View) -> ToyQuestion | None:
    """What is behind the red cube?"""
    alone: dict[tuple[ToyRelation, int], list[Related]] = {}
    for related in view.scene.relations:
        alone.setdefault((related.relation, related.object), []).append(related)
    adjectives: tuple[AttributeName, ...] = ("colour", "material")
    nameable = view.nameable(adjectives)
    single = [found[0] for found in alone.values() if len(found) == 1 and found[0].object in nameable]
    if not single:
        return None
    related = view.one_of(single)
    words = view.one_of(WORDINGS[related.relation]).singular
    text = f"What {words} the {view.name(related.object, adjectives)}?"
    return _other(text, "what", view.things[related.subject].shape, SHAPES)


def _how_many(view: _View) -> ToyQuestion | None:
    """How many cubes are there? / How many red things are there?"""
    count = int(view.rng.choice(3, p=HOW_MANY))
    attribute: AttributeName = "shape" if view.chance(0.5) else "colour"
    values = SHAPES if attribute == "shape" else COLOURS
    fitting = [v for v in values if sum(thing.value(attribute) == v for thing in view.things) == count]
    if not fitting:
        return None
    value = view.one_of(fitting)
    named = f"{value}s" if attribute == "shape" else f"{value} things"
    wrong = tuple(str(n) for n in (count - 1, count + 1) if n >= 0)
    return ToyQuestion(f"How many {named} are there?", "how many", str(count), wrong, "number")


def _is_there(view: _View) -> ToyQuestion | None:
    """Is there a red cube?"""
    yes = view.chance(IS_THERE)
    looks = {(thing.colour, thing.shape) for thing in view.things}
    if yes:
        colour, shape = view.one_of(sorted(looks))
    else:
        mixed = [(c, s) for c, _ in sorted(looks) for _, s in sorted(looks) if (c, s) not in looks]
        any_look = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in looks]
        colour, shape = view.one_of(mixed if mixed and view.chance(0.5) else any_look)
    return _yes_or_no(f"Is there a {colour} {shape}?", "is there a", yes)


def _is_it(view: _View) -> ToyQuestion | None:
    """Is the cube red?"""
    things = view.nameable(("material", "size"))
    if not things:
        return None
    thing, yes = view.one_of(things), view.chance(0.5)
    colour = view.things[thing].colour
    said = colour if yes else view.other(COLOURS, colour)
    return _yes_or_no(f"Is the {view.name(thing, ('material', 'size'))} {said}?", "is the", yes)


def _is_it_there(view: _View) -> ToyQuestion | None:
    """Is the red cube behind the ball?"""
    adjectives: tuple[AttributeName, ...] = ("colour", "material")
    pairs = view.related(tuple(OPPOSITES), view.nameable(adjectives))
    if not pairs:
        return None
    related, yes = view.one_of(pairs), view.chance(0.5)
    subject, object = (related.subject, related.object) if yes else (related.object, related.subject)
    words = view.one_of(WORDINGS[related.relation]).bare
    text = f"Is the {view.name(subject, adjectives)} {words} the {view.name(object, adjectives)}?"
    return _yes_or_no(text, "is the", yes)


FORMS: Mapping[Callable[[_View], ToyQuestion | None], float] = {
    _which_colour: 0.2,
    _what_is_there: 0.15,
    _how_many: 0.25,
    _is_there: 0.1,
    _is_it: 0.1,
    _is_it_there: 0.2,
}
"""how often each question is tried"""
HOW_MANY = (0.18, 0.29, 0.53)
"""how often 0, 1 and 2 are tried; few scenes hold two of a kind, so in the end all are about as frequent"""
IS_THERE = 0.58
"""how often "yes" is tried; a scene has fewer such questions, so more of them repeat and are dropped"""


# ------------------------------------------------------------------------------------------------------------- choices

Tokens = list[str | list[int]]
"""a text; a list of numbers stands for things"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with four answers and four rationales; ``answer`` and ``rationale`` number the right ones."""

    question: Tokens
    answers: list[Tokens]
    answer: int
    rationales: list[Tokens]
    rationale: int


def choose(scene: Scene, most: int, rng: np.random.Generator) -> list[Choice]:
    """Returns up to ``most`` different questions about pairs of things that their shapes tell apart; perhaps none.

    One kind asks how a thing looks, and its rationale says where the thing is. The other kind asks where it is.
    """
    view = _View(scene, rng)
    asked = [(r, looks) for r in view.related(tuple(OPPOSITES), view.nameable()) for looks in (True, False)]
    picked = rng.permutation(len(asked))[:most]
    return [_choice(view, *asked[int(i)]) for i in picked]


def _choice(view: _View, related: Related, looks: bool) -> Choice:
    thing = view.things[related.subject]
    look = _four(
        lambda colour, material: [[related.subject], "is", colour, "and", material, "."],
        (thing.colour, view.other(COLOURS, thing.colour)),
        (thing.material, view.other(MATERIALS, thing.material)),
        view.rng,
    )
    beside = view.things[related.object].colour
    place = _four(
        lambda words, colour: [[related.subject], *words.split(), [related.object], "which", "is", colour, "."],
        tuple(WORDINGS[r][0].singular for r in (related.relation, OPPOSITES[related.relation])),
        (beside, view.other(COLOURS, beside)),
        view.rng,
    )
    asked: list[int] = [related.subject]
    if looks:
        return Choice(["What", "is", asked, "like", "?"], *look, *place)
    return Choice(["Where", "is", asked, "?"], *place, *look)


def _four(
    say: Callable[[str, str], Tokens], first: tuple[str, ...], second: tuple[str, ...], rng: np.random.Generator
) -> tuple[list[Tokens], int]:
    """Returns all combinations of two facts in random order, and the number of the right one.

    Each fact has a right value (at index 0) and a wrong one. Each value is in two of the choices, so none sticks out.
    """
    said = [say(a, b) for a in first for b in second]
    order = rng.permutation(len(said)).tolist()
    return [said[i] for i in order], order.index(0)


# --------------------------------------------------------------------------------------------------------- expressions


def refer(scene: Scene, thing: int, most: int, rng: np.random.Generator) -> list[str]:
    """Returns up to ``most`` different expressions that fit this thing alone, without a word of place; perhaps none.

    Expressions that name its looks can be matched with single regions; the others compare it with the things beside it.
    """
    view = _View(scene, rng)
    forms, shares = list(EXPRESSION_FORMS), list(EXPRESSION_FORMS.values())
    drawn = [forms[int(i)](view, thing) for i in rng.choice(len(forms), size=TRIES, p=shares)]
    return list(dict.fromkeys(filter(None, drawn)))[:most]


def _by_looks(view: _View, thing: int) -> str | None:
    """large red cube"""
    return view.name(thing, ADJECTIVES) if thing in view.nameable(ADJECTIVES) else None


def _by_looks_and_relation(view: _View, thing: int) -> str | None:
    """red cube touching the ball"""
    related = [r for r in view.related(PLACELESS, view.nameable(ADJECTIVES)) if r.subject == thing]
    if not related:
        return None
    found = view.one_of(related)
    words = WORDINGS[found.relation][0].bare
    return f"{view.name(thing, ADJECTIVES)} {words} the {view.name(found.object, ADJECTIVES)}"


def _by_difference(view: _View, thing: int) -> str | None:
    """thing that is not metal"""
    alone = [
        others.pop()
        for attribute in VALUES
        if len(others := {t.value(attribute) for i, t in enumerate(view.things) if i != thing}) == 1
        and view.things[thing].value(attribute) not in others
    ]
    if not alone:
        return None
    value = view.one_of(alone)
    return f"thing that is not {'a ' if value in SHAPES else ''}{value}"


def _by_likeness(view: _View, thing: int) -> str | None:
    """thing of the same material as the ball"""
    like = [
        (said, other)
        for attribute, said in LIKENESSES.items()
        for other in view.nameable(("colour",))
        if [i for i, t in enumerate(view.things) if t.value(attribute) == view.things[other].value(attribute)]
        == sorted((thing, other))
    ]
    # With two things it would always be the one that is not named.
    if not like or len(view.things) < 3:
        return None
    said, other = view.one_of(like)
    return f"thing of the same {said} as the {view.name(other, ('colour',))}"


EXPRESSION_FORMS: Mapping[Callable[[_View, int], str | None], float] = {
    _by_looks: 0.2,
    _by_looks_and_relation: 0.2,
    _by_difference: 0.2,
    _by_likeness: 0.4,
}
"""how often each expression is tried"""
LIKENESSES: Mapping[AttributeName, str] = {
    "shape": "shape",
    "colour": "color",
    "material": "material",
    "size": "size",
}
TRIES = 12
"""how many expressions are tried for a thing; many forms have nothing to say about it"""
