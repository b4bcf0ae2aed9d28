"""Which images are held out follows from their image ids alone, whatever files they come in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from parsers.command import InputError, pluralize

TRAIN, VAL = "train", "val"
"""what the others and the held-out ones are called"""
SHARE_HELD_OUT = 0.2
MOST_HELD_OUT = 200
"""Every held-out caption is scored with every held-out image, so their number is bounded."""
FEWEST = 4
"""images: two to learn from, and two to tell apart"""


def place_image(image_id: str) -> int:
    """Returns a number below 2**64 that follows from the image id alone: the images with the lowest are held out."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "big")


def is_held_out(image_id: str, share: float) -> bool:
    """Returns whether an image belongs to the held-out split. A hash of its id alone decides."""
    return place_image(image_id) < share * 2**64


def choose_holdout(image_ids: Iterable[str]) -> float:
    """Returns the share for `is_held_out` that holds out a fifth of the images, at most 200.

    Raises:
        InputError: there are too few images.
    """
    places = sorted(map(place_image, image_ids))
    if len(places) < FEWEST:
        raise InputError(
            f"{pluralize(len(places), 'image')} with captions: at least {FEWEST} are needed, and hundreds for a model "
            "that is good for something"
        )
    count = min(max(2, round(SHARE_HELD_OUT * len(places))), MOST_HELD_OUT)
    return (places[count - 1] + places[count]) / 2 / 2**64
