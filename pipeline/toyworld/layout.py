"""Draws a random scene: first the things, then small groups of them, then where each group stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.toyworld.scene import (
    COLOURS,
    COVERED_SHARE,
    HEIGHT,
    MATERIALS,
    SHAPES,
    SIZES,
    WIDTH,
    PixelBox,
    Scene,
    Thing,
)

BACKDROPS = 4
"""the number of pairs of wall and floor colours that `render` has"""

HEIGHTS = {"small": 36, "large": 56}
"""the height of a thing in pixels"""
ASPECT = dict.fromkeys(SHAPES, 1.0) | {"cone": 0.88, "cylinder": 0.84}
"""the width of a thing divided by its height"""
ROUND = ("ball", "ring")
TILT = 14
"""how far a leaning thing is tilted, in degrees"""

SHELF_Y, SHELF_THICKNESS = 94, 7
FLOOR_Y = (196, 222)
"""the range of the ground under the things on the floor, in pixels from the top"""
MARGIN = 5
GAP = 14
"""the least space between two groups, in pixels; it tells things that touch from things that do not"""
LEANING_Y = 4
"""how much nearer to the eye the leaning thing stands, in pixels"""
LOOK_ALIKE = 0.4
"""the probability that a second thing takes after the first one, so that captions can count"""
GROUPS = {"alone": 0.4, "stack": 0.14, "touching": 0.12, "in front": 0.14, "covering": 0.1, "leaning": 0.1}
FLOOR_ONLY = ("stack", "in front", "covering")

Group = tuple[str, list[Thing]]


def sample_scene(
    image_id: int, rng: np.random.Generator, things: tuple[int, int] = (3, 6), *, apart: bool = False
) -> Scene:
    """Draws a scene with ``things[0]`` to ``things[1]`` things (both included, equally likely).

    Shape, colour, material and size are drawn independently of each other and of the place, so words alone predict
    none of them. The only exception is that a small thing cannot cover a large one. See `place_toys` for ``apart``.
    """
    toys = draw_toys(int(rng.integers(things[0], things[1] + 1)), rng)
    return place_toys(image_id, toys, rng, apart=apart)


def place_toys(image_id: int, toys: Sequence[Thing], rng: np.random.Generator, *, apart: bool = False) -> Scene:
    """Draws a place for each thing, and a backdrop. Where the things stood before plays no part.

    If the things stand ``apart``, none touches, carries or hides another. The relations that are left are as likely as
    their opposites, whatever the things look like.
    """
    backdrop = int(rng.integers(BACKDROPS))
    while True:
        groups = [("alone", [_standing(toy)]) for toy in toys] if apart else _groups(toys, rng)
        placed = _place(groups, rng)
        if placed is not None:
            return Scene(image_id, *placed, backdrop)


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def draw_toys(count: int, rng: np.random.Generator) -> list[Thing]:
    """Draws things that have no place yet."""
    toys = [
        Thing(_pick(SHAPES, rng), _pick(COLOURS, rng), _pick(MATERIALS, rng), _pick(SIZES, rng)) for _ in range(count)
    ]
    if rng.random() < LOOK_ALIKE:
        first, second = toys[0], toys[1]
        same = rng.random(3) < 0.6
        toys[1] = Thing(
            first.shape,
            first.colour if same[0] else second.colour,
            first.material if same[1] else second.material,
            first.size if same[2] else second.size,
        )
    return [toys[i] for i in rng.permutation(count)]


def _groups(toys: Sequence[Thing], rng: np.random.Generator) -> list[Group]:
    """Cuts the toys into groups of one or two. The boxes of a group are relative to the left end of its ground."""
    names, thresholds = list(GROUPS), np.cumsum(list(GROUPS.values()))
    groups: list[Group] = []
    left = list(toys)
    while left:
        name = names[int(np.searchsorted(thresholds, rng.random() * thresholds[-1]))] if len(left) > 1 else "alone"
        members = [left.pop() for _ in range(1 if name == "alone" else 2)]
        groups.append((name, _arrange(name, members, rng)))
    return groups


def _standing(thing: Thing, widen: float = 1.0) -> Thing:
    height = HEIGHTS[thing.size]
    return replace(thing, box=PixelBox(0, -height, round(height * ASPECT[thing.shape] * widen), 0), tilt=0)


def _moved(thing: Thing, dx: int, dy: int) -> Thing:
    return replace(thing, box=thing.box.moved(dx, dy))


def _arrange(name: str, members: list[Thing], rng: np.random.Generator) -> list[Thing]:
    """The members in drawing order; the group starts at x = 0 and its ground is y = 0."""
    if name == "alone":
        return [_standing(members[0])]
    first, second = (_standing(thing) for thing in members)
    mirrored = bool(rng.random() < 0.5)
    if name == "stack":
        slack = abs(first.box.width - second.box.width) // 2 + min(first.box.width, second.box.width) // 6
        centred = (first.box.width - second.box.width) // 2
        second = _moved(second, centred + int(rng.integers(-slack, slack + 1)), first.box.y1)
    elif name == "touching":
        second = _moved(second, first.box.width, 0)
    elif name == "leaning":
        second = replace(_standing(members[1], widen=1.0 if second.shape in ROUND else 1.15), tilt=TILT)
        second = _moved(second, first.box.width - int(rng.integers(10, 15)), LEANING_Y)
    else:
        first, second = _one_before_the_other(name == "covering", first, second, rng)
    if mirrored:
        first, second = (
            replace(t, box=PixelBox(-t.box.x2, t.box.y1, -t.box.x1, t.box.y2), tilt=-t.tilt) for t in (first, second)
        )
    edge = min(first.box.x1, second.box.x1)
    return [_moved(first, -edge, 0), _moved(second, -edge, 0)]


def _one_before_the_other(covering: bool, back: Thing, front: Thing, rng: np.random.Generator) -> tuple[Thing, Thing]:
    """Shifts the things until the right share of the one behind is hidden."""
    if covering and HEIGHTS[front.size] < HEIGHTS[back.size]:
        back, front = front, back
    low, high = (COVERED_SHARE + 0.03, 0.78) if covering else (0.14, 0.42)
    while True:
        back_y = -int(rng.integers(9, 13) if covering else rng.integers(14, 20))
        moved = _moved(front, int(rng.integers(-front.box.width, back.box.width)), 0)
        behind = _moved(back, 0, back_y)
        if low <= behind.box.hidden_by(moved.box) <= high:
            return behind, moved


def _place(groups: list[Group], rng: np.random.Generator) -> tuple[tuple[Thing, ...], PixelBox | None] | None:
    """Spreads the groups over floor and shelf. Returns None if they do not fit."""
    floor: list[list[Thing]] = []
    shelf: list[list[Thing]] = []
    for name, members in groups:
        (floor if name in FLOOR_ONLY or rng.random() < 0.6 else shelf).append(members)
    if not floor:
        return None
    board = None
    upper: list[Thing] = []
    if shelf:
        span = sum(_extent(members) for members in shelf) + GAP * (len(shelf) - 1)
        length = min(WIDTH - 2 * MARGIN, span + int(rng.integers(16, 60)))
        start = int(rng.integers(MARGIN, WIDTH - MARGIN - length + 1))
        spread = _spread(shelf, start + 4, start + length - 4, [SHELF_Y] * len(shelf), rng)
        if spread is None:
            return None
        upper, board = spread, PixelBox(start, SHELF_Y, start + length, SHELF_Y + SHELF_THICKNESS)
    grounds = [int(y) for y in rng.integers(FLOOR_Y[0], FLOOR_Y[1] + 1, len(floor))]
    lower = _spread(floor, MARGIN, WIDTH - MARGIN, grounds, rng)
    if lower is None:
        return None
    if board is not None and any(thing.box.gap_x(board) < 4 and thing.box.y1 < board.y2 + 6 for thing in lower):
        return None
    assert all(t.box.x1 >= 0 and t.box.x2 <= WIDTH and t.box.y1 >= 0 and t.box.y2 <= HEIGHT for t in upper + lower)
    return (*upper, *lower), board


def _extent(members: list[Thing]) -> int:
    return max(thing.box.x2 for thing in members)


def _spread(
    groups: list[list[Thing]], start: int, end: int, grounds: list[int], rng: np.random.Generator
) -> list[Thing] | None:
    """Places the groups side by side in random order with random gaps of at least `GAP` pixels."""
    order = rng.permutation(len(groups))
    free = end - start - sum(_extent(members) for members in groups) - GAP * (len(groups) - 1)
    if free < 0:
        return None
    cuts = np.sort(rng.integers(0, free + 1, len(groups)))
    placed: list[Thing] = []
    x = start
    for rank, group in enumerate(order):
        placed += [_moved(thing, x + int(cuts[rank]), grounds[rank]) for thing in groups[group]]
        x += _extent(groups[group]) + GAP
    return placed
