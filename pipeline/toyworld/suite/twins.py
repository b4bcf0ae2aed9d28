"""Draws twins: two pictures of nearly the same things, and two captions that differ in one place.

Each caption is true of one picture and false of the other. So words alone tell nothing: whatever a model without eyes
prefers, it is right for one twin and wrong for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.toyworld.captions import describe
from pipeline.toyworld.layout import draw_toys, place_toys
from pipeline.toyworld.scene import Scene
from pipeline.toyworld.suite.changes import CHANGES, Kind, NotChangeable, change
from pipeline.toyworld.suite.truth import is_true, may_be_true

KINDS = tuple(CHANGES)
TRIES = 50
"""How often the second picture is drawn before another first one is taken."""


@dataclass(frozen=True, slots=True)
class Twins:
    """Two scenes with a caption each. Each caption is false of the other scene."""

    kind: Kind
    scenes: tuple[Scene, Scene]
    captions: tuple[str, str]


def sample_twins(number: int, rng: np.random.Generator, things: tuple[int, int], *, apart: bool = False) -> Twins:
    """Draws the twins with the image ids 2 * ``number`` - 1 and 2 * ``number``. The kinds take turns.

    The second scene has the things that the changed caption speaks of, placed anew. What is true is so in the
    strictest reading of a caption, and what is false in every reading.

    Args:
        number: from 1.
        rng: decides on everything but the kind.
        things: the fewest and the most things of a scene.
        apart: see `place_toys`.
    """
    kind = KINDS[number % len(KINDS)]
    while True:
        toys = draw_toys(int(rng.integers(things[0], things[1] + 1)), rng)
        first = place_toys(2 * number - 1, toys, rng, apart=apart)
        (caption,) = describe(first, 1, rng)
        try:
            changed = change(kind, caption, first.things, rng)
        except NotChangeable:
            continue
        if may_be_true(changed.caption.claims, first):
            continue
        for _ in range(TRIES):
            # In the first scene, things of a group follow each other; here any of them may form a group.
            toys = [changed.toys[i] for i in rng.permutation(len(changed.toys))]
            second = place_toys(2 * number, toys, rng, apart=apart)
            if is_true(changed.caption.claims, second) and not may_be_true(caption.claims, second):
                return Twins(kind, (first, second), (caption.text, changed.caption.text))
