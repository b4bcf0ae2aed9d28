"""Object detectors, which find regions in pictures and describe them: `get` builds a detector by its name.

Modules here may import `parsers` and `shards`. Importing this package imports no detector and no PyTorch.
Start reading at `Detector`, which says what a detector must do; docs/regions.md shows the smallest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parsers.registry import Registry
from shards.schema import Array


@dataclass(frozen=True, slots=True)
class Detections:
    """The regions of one image."""

    boxes: Array
    """float32 [n, 4]: x1, y1, x2, y2 in pixels of the given image"""
    features: Array
    """float32 [n, d]"""
    class_probs: Array
    """float32 [n, classes]: each row is a distribution that includes the background, see `Detector.background`"""
    attribute_probs: Array | None
    """float32 [n, attributes]; None if the detector knows no attributes"""


class Detector(Protocol):
    """A detector finds regions in a batch of images and describes them, in the same order.

    ``detect`` is deterministic and touches no file and no network. The regions of an image do not depend on the other
    images of the batch, except for the rounding of sums. Everything that must be loaded is loaded in ``__init__``.
    """

    name: str
    version: str
    """It changes whenever the regions of some image may change (weights, settings), and is part of the fingerprint."""
    feature_size: int
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    """This is empty if the detector knows no attributes."""
    background: int | None
    """The column of ``class_probs`` that stands for "no object"; None if there is none."""

    def detect(self, images: Sequence[Array], boxes: Sequence[Array] | None = None) -> list[Detections]:
        """Returns the regions of each image.

        Args:
            images: uint8 [height, width, 3] each, RGB; sizes may differ.
            boxes: float32 [n, 4] for each image. If given, exactly these boxes are described, in their order.
        """
        ...


DETECTORS: Registry[Detector] = Registry("detector", "ernie_vil.detectors")
names = DETECTORS.names


def get(name: str, **options: object) -> Detector:
    """Builds a detector with its own options; ``NAME:MODEL`` builds one of several models that share a name.

    Raises:
        ValueError: no installed package offers such a detector, or the detector refuses the values of its options.
        ImportError: the detector, or a package that it needs, cannot be imported.
        TypeError: the detector does not take these options.
    """
    head, _, model = name.partition(":")
    try:
        return DETECTORS.get(head, **({"model": model} if model else {}), **options)
    except ImportError as error:
        if "torchvision" not in str(error):
            raise
        raise ImportError(
            f"{error}; install the torchvision that was built for the installed torch, from the same index"
        ) from error
