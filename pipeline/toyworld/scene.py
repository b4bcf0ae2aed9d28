"""What a picture holds: things with attributes and boxes, and the relations that follow from the boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from itertools import permutations
from typing import Any, Literal

WIDTH, HEIGHT = 320, 240
"""the size of every picture in pixels"""

SHAPES = ("cube", "ball", "cone", "cylinder", "pyramid", "ring", "star", "heart")
COLOURS = ("red", "pink", "yellow", "green", "blue", "purple", "white", "black")
MATERIALS = ("metal", "rubber", "wooden", "glass")
SIZES = ("small", "large")

AttributeName = Literal["shape", "colour", "material", "size"]
VALUES: Mapping[AttributeName, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "material": MATERIALS,
    "size": SIZES,
}


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A rectangle in whole pixels. The origin is at the top left; ``x2`` and ``y2`` are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        """The width in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        """The height in pixels."""
        return self.y2 - self.y1

    @property
    def area(self) -> int:
        """The area in square pixels."""
        return self.width * self.height

    def moved(self, dx: int, dy: int) -> PixelBox:
        """Returns the box, shifted by whole pixels."""
        return PixelBox(self.x1 + dx, self.y1 + dy, self.x2 + dx, self.y2 + dy)

    def gap_x(self, other: PixelBox) -> int:
        """Returns the free pixels between the two boxes from left to right; if negative, the width that they share."""
        return max(self.x1, other.x1) - min(self.x2, other.x2)

    def gap_y(self, other: PixelBox) -> int:
        """Returns the free pixels between the two boxes from top to bottom; if negative, the height that they share."""
        return max(self.y1, other.y1) - min(self.y2, other.y2)

    def hidden_by(self, other: PixelBox) -> float:
        """Returns the share of this box that ``other`` overlaps, 0 to 1."""
        return max(0, -self.gap_x(other)) * max(0, -self.gap_y(other)) / self.area


class ToyRelation(StrEnum):
    """How one thing stands to another. The two boxes alone (and, for leaning, the tilt) decide whether it holds."""

    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    NEXT_TO = "next to"
    ABOVE = "above"
    BELOW = "below"
    IN_FRONT_OF = "in front of"
    BEHIND = "behind"
    COVERING = "covering"
    COVERED_BY = "covered by"
    RESTING_ON = "resting on"
    CARRYING = "carrying"
    TOUCHING = "touching"
    LEANING_AGAINST = "leaning against"


@dataclass(frozen=True, slots=True)
class Thing:
    """A toy. ``tilt`` is in degrees counter-clockwise, and 0 unless the toy leans against another thing."""

    shape: str
    colour: str
    material: str
    size: str
    box: PixelBox = PixelBox(0, 0, 0, 0)
    tilt: int = 0

    def value(self, attribute: AttributeName) -> str:
        """Returns the thing's shape, colour, material or size."""
        value: str = getattr(self, attribute)
        return value


@dataclass(frozen=True, slots=True)
class Related:
    """The relation holds from ``things[subject]`` to ``things[object]``."""

    subject: int
    relation: ToyRelation
    object: int


NEXT_TO_PIXELS = 34
COVERED_SHARE = 0.55


def relations_between(subject: Thing, object: Thing) -> tuple[ToyRelation, ...]:
    """Returns all relations that hold from ``subject`` to ``object``."""
    a, b = subject.box, object.box
    gap_x, gap_y = a.gap_x(b), a.gap_y(b)
    beside = -gap_y >= 0.5 * min(a.height, b.height)
    in_line = -gap_x >= 0.5 * min(a.width, b.width)
    holds = {
        ToyRelation.LEFT_OF: beside and a.x2 <= b.x1,
        ToyRelation.RIGHT_OF: beside and b.x2 <= a.x1,
        ToyRelation.NEXT_TO: beside and 3 <= gap_x <= NEXT_TO_PIXELS,
        ToyRelation.ABOVE: in_line and b.y1 - a.y2 >= 6,
        ToyRelation.BELOW: in_line and a.y1 - b.y2 >= 6,
        ToyRelation.IN_FRONT_OF: a.y2 - b.y2 >= 6 and b.hidden_by(a) >= 0.1,
        ToyRelation.BEHIND: b.y2 - a.y2 >= 6 and a.hidden_by(b) >= 0.1,
        ToyRelation.COVERING: a.y2 - b.y2 >= 6 and b.hidden_by(a) >= COVERED_SHARE,
        ToyRelation.COVERED_BY: b.y2 - a.y2 >= 6 and a.hidden_by(b) >= COVERED_SHARE,
        ToyRelation.RESTING_ON: in_line and abs(a.y2 - b.y1) <= 3,
        ToyRelation.CARRYING: in_line and abs(b.y2 - a.y1) <= 3,
        ToyRelation.TOUCHING: a.y2 == b.y2 and abs(gap_x) <= 1,
        ToyRelation.LEANING_AGAINST: subject.tilt != 0 and 2 <= a.y2 - b.y2 <= 5 and gap_x < 0,
    }
    return tuple(relation for relation, true in holds.items() if true)


@dataclass(frozen=True)
class Scene:
    """The truth about a picture. ``things`` are in drawing order: a later one hides an earlier one.

    ``shelf`` is the box of the shelf's board, if there is one. ``backdrop`` numbers the colours of wall and floor.
    """

    image_id: int
    things: tuple[Thing, ...]
    shelf: PixelBox | None = None
    backdrop: int = 0

    @cached_property
    def relations(self) -> tuple[Related, ...]:
        """All relations that hold between two things, ordered by subject, object and relation."""
        return tuple(
            Related(i, relation, j)
            for i, j in permutations(range(len(self.things)), 2)
            for relation in relations_between(self.things[i], self.things[j])
        )

    def to_dict(self) -> dict[str, object]:
        """Returns the scene, with its relations, as scenes.jsonl has it. Boxes are x1, y1, x2, y2 in pixels."""
        return {
            "image_id": self.image_id,
            "width": WIDTH,
            "height": HEIGHT,
            "things": [
                {
                    "shape": t.shape,
                    "colour": t.colour,
                    "material": t.material,
                    "size": t.size,
                    "box": list(asdict(t.box).values()),
                    "tilt": t.tilt,
                }
                for t in self.things
            ],
            "relations": [[r.subject, r.relation.value, r.object] for r in self.relations],
            "shelf": None if self.shelf is None else list(asdict(self.shelf).values()),
            "backdrop": self.backdrop,
        }

    @classmethod
    def from_dict(cls, scene: Mapping[str, Any]) -> Scene:
        """Returns the scene of a line of scenes.jsonl. Its relations follow from the boxes again.

        Raises:
            ValueError, TypeError, KeyError: the line holds something else.
        """
        things = tuple(Thing(**{**thing, "box": _read_box(thing["box"])}) for thing in scene["things"])
        shelf = None if scene["shelf"] is None else _read_box(scene["shelf"])
        return cls(scene["image_id"], things, shelf, scene["backdrop"])


def _read_box(corners: Sequence[object]) -> PixelBox:
    x1, y1, x2, y2 = (corner for corner in corners if isinstance(corner, int))
    if not (0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT):
        raise ValueError(f"the box {x1}, {y1}, {x2}, {y2} is not in the picture")
    return PixelBox(x1, y1, x2, y2)
