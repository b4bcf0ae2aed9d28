"""Object detectors: `get` finds one by name, `Detector` says what one must do.

Detectors are found through the entry-point group ``ernie_vil.detectors``, so another package can add one. Importing
this package imports no detector and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from shards.schema import Array

ENTRY_POINT_GROUP = "ernie_vil.detectors"


@dataclass(frozen=True, slots=True)
class Detections:
    """The regions of an image."""

    boxes: Array
    """float32 [n, 4]: x1, y1, x2, y2 in pixels of the given image"""
    features: Array
    """float32 [n, d]"""
    class_probs: Array
    """float32 [n, classes]: a distribution, background included; see `Detector.background`"""
    attribute_probs: Array | None
    """float32 [n, attributes], or None"""


class Detector(Protocol):
    """Finds regions in images and describes them: a batch in, a batch out, in the same order.

    ``detect`` is deterministic and touches no file and no network. The regions of an image do not depend on its
    neighbours in the batch, the rounding of sums aside. Whatever must be loaded is loaded when the detector is built.
    """

    name: str
    version: str
    """Changes whenever the regions of some image may change (weights, settings): part of the stage's fingerprint."""
    feature_size: int
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    """Empty where the detector knows no attributes."""
    background: int | None
    """The column of ``class_probs`` that stands for no object."""

    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:
        """The regions of each image.

        Args:
            images: uint8 [height, width, 3] each, RGB; sizes may differ.
            boxes: float32 [n, 4] for each image. If given, exactly these are described, in their order.
        """
        ...


def names() -> list[str]:
    """The names of all installed detectors, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def get(name: str, **options: Any) -> Detector:
    """Builds a detector with its own options; ``NAME:MODEL`` builds one of several models that go by a name.

    Raises:
        ValueError: no installed package offers such a detector, or it cannot be imported, or does not take the options.
    """
    head, _, model = name.partition(":")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == head:
            try:
                make = entry.load()
            except (ImportError, RuntimeError) as error:  # the latter where torchvision was built for another torch
                pair = "; take the torchvision that was made for the installed torch, from the same index"
                advice = pair if "torchvision" in str(error) else ""
                raise ValueError(f"the detector {head!r} cannot be imported: {error}{advice}") from error
            detector: Detector = make(**({"model": model} if model else {}), **options)
            return detector
    raise ValueError(f"there is no detector {head!r}; installed are: {', '.join(names()) or 'none'}")
