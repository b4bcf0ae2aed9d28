"""Says whether what a caption claims is true of a scene, which need not be the scene that it was said about.

The numbers of things in claims are only names here: they say which noun phrases speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

from pipeline.toyworld.captions import Claim, Mention, Predicated
from pipeline.toyworld.scene import Related, Scene


def is_true(claims: Sequence[Claim], scene: Scene) -> bool:
    """Says whether the claims are true in the strictest reading.

    Each noun phrase must fit as many things as it names, and no others. "The red cube" needs exactly one red cube.
    """
    found = {mention: _find_things(mention, scene) for mention in _mentions(claims)}
    return all(len(things) == len(mention.things) for mention, things in found.items()) and _hold(claims, scene, found)


def may_be_true(claims: Sequence[Claim], scene: Scene) -> bool:
    """Says whether the claims are true in the most generous reading.

    A noun phrase may mean any of the things that it fits. "The red cube is behind the ball" needs some red cube behind
    some ball, and "two cubes" needs two or more. What is false in this reading is false in every other.
    """
    return any(_hold(claims, scene, meaning) for meaning in _meanings(claims, scene))


def _mentions(claims: Sequence[Claim]) -> list[Mention]:
    return [claim for claim in claims if isinstance(claim, Mention)]


def _find_things(mention: Mention, scene: Scene) -> tuple[int, ...]:
    """Returns the things that the words fit."""
    return tuple(
        number
        for number, thing in enumerate(scene.things)
        if all(thing.value(attribute) == value for attribute, value in mention.words)
    )


def _meanings(claims: Sequence[Claim], scene: Scene) -> Iterator[Mapping[Mention, tuple[int, ...]]]:
    """Yields every choice of things for the noun phrases."""
    mentions = _mentions(claims)
    options = [combinations(_find_things(mention, scene), len(mention.things)) for mention in mentions]
    for chosen in product(*options):
        yield dict(zip(mentions, chosen, strict=True))


def _hold(claims: Sequence[Claim], scene: Scene, meaning: Mapping[Mention, tuple[int, ...]]) -> bool:
    """Says whether all claims hold if the noun phrases mean these things."""
    meant = {name: things for mention, things in meaning.items() for name in mention.things}
    for claim in claims:
        match claim:
            case Predicated(names, attribute, value):
                if any(scene.things[i].value(attribute) != value for name in names for i in meant[name]):
                    return False
            case Related(subject, relation, object):
                pairs = product(meant[subject], meant[object])
                if any(Related(i, relation, j) not in scene.relations for i, j in pairs):
                    return False
    return True
