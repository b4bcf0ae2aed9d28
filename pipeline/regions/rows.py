"""What all formats of regions share: the protocol, and the checks that turn arrays into the regions of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from parsers.command import InputError, pluralize
from pipeline.execution.parts import Reject
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, RegionsRow
from shards.schema import Array, Regions
from shards.storage.files import AnyPath

RegionRows = Iterator[RegionsRow | Reject]
P = TypeVar("P")
"""a partition of the sources; it can be pickled"""
FIRST_IMAGES = 16
"""how many images are read before the work begins, to refuse sources that hold nothing else than bad ones"""
NO_CLASSES = Classes(kind="none", count=None, background=None, names=None)


class RegionFormat(Protocol[P]):
    """A layout in which region features are published."""

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """Returns what holds for all rows, which the first good row tells.

        Args:
            sources: the files or folders that the user named.
            class_names: the names of the detector's classes without the background, if the user gave them.
            feature_size: the numbers in a feature, if the user gave it. Bytes are then float16, float32 or float64,
                whichever gives that many numbers; without it they are float32.

        Raises:
            InputError: the sources do not have this format, or the names do not fit.
        """
        ...

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the files that the sources name, in the order in which they are read."""
        ...

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[P]:
        """Yields partitions of about ``size`` images."""
        ...

    def read(self, partition: P, info: RegionsInfo) -> RegionRows:
        """Yields the images of a partition, each as a row or a reject."""
        ...


def check_first_images(format: RegionFormat[P], files: Sequence[AnyPath], info: RegionsInfo) -> None:
    """Reads a few images and refuses sources of which all are rejected, before any work is done.

    Raises:
        InputError: none of the first images can be used; the message has the reason for the first one.
    """
    rows = (row for partition in format.partitions(files, FIRST_IMAGES) for row in format.read(partition, info))
    first = list(islice(rows, FIRST_IMAGES))
    reasons = [row.reason for row in first if isinstance(row, Reject)]
    if reasons and len(reasons) == len(first):
        hint = "; give their number with --feature-size N" if "perhaps float16" in reasons[0] else ""
        raise InputError(
            f"{files[0]}: none of the first {pluralize(len(first), 'image')} can be used: {reasons[0]}{hint}"
        )


def make_row(
    image_id: str, width: int, height: int, boxes: Array, features: Array, distribution: Array | None, info: RegionsInfo
) -> RegionsRow:
    """Checks the regions of an image and returns them as a row of the table.

    Args:
        image_id: the id of the image.
        width: the width of the image in pixels.
        height: its height.
        boxes: float [n, 4], x1, y1, x2, y2 in pixels.
        features: float [n, d].
        distribution: float [n, classes] with the background in column 0; None if the source has none.
        info: what holds for all rows.

    Raises:
        ValueError: they are not valid, for the reason that the message gives.
    """
    n = len(boxes)
    _check_shapes(image_id, boxes, features, info)
    ids = probabilities = None
    if info.classes.count is not None:
        if distribution is None or distribution.shape != (n, info.classes.count):
            raise ValueError(f"cls_prob is missing or not ({n}, {info.classes.count})")
        if not np.isfinite(distribution).all() or (distribution < 0).any():
            raise ValueError("class probabilities are negative or not finite")
        if (np.abs(distribution.sum(1, dtype=np.float64) - 1) > 1e-3).any():
            raise ValueError("class probabilities do not sum to 1")
        ids, probabilities = most_likely(distribution)
    regions = Regions(boxes.astype(np.float32), to_half(features), ids, probabilities)
    regions.check(width, height)
    return RegionsRow(image_id, width, height, regions)


@dataclass(frozen=True)
class ArgMax:
    """The most likely class and attribute of each region, and how likely they are."""

    classes: Array | None
    """int [n]"""
    confidence: Array | None
    """float [n]"""
    attributes: Array | None = None
    """int [n]; None if the source has no attributes"""
    attribute_confidence: Array | None = None
    """float [n]"""


def make_argmax_row(
    image_id: str, width: int, height: int, boxes: Array, features: Array, found: ArgMax, info: RegionsInfo
) -> RegionsRow:
    """Does what `make_row` does for an image of which only the most likely classes and attributes are known.

    These are ``found``, in place of ``distribution``. The row holds the attributes if ``found`` does.
    """
    n = len(boxes)
    _check_shapes(image_id, boxes, features, info)
    if found.classes is None or found.confidence is None:
        raise ValueError("no classes")
    ids = to_ids(found.classes.reshape(n, 1), info.classes.count)
    confidence = to_half(found.confidence).reshape(n, 1)
    regions = Regions(boxes.astype(np.float32), to_half(features), ids, confidence)
    regions.check(width, height)
    if found.attributes is None or found.attribute_confidence is None:
        return RegionsRow(image_id, width, height, regions)
    if not ((found.attribute_confidence >= 0) & (found.attribute_confidence <= 1.001)).all():
        raise ValueError("attribute probabilities are negative, not finite or more than 1")
    attributes = to_ids(found.attributes.reshape(n, 1), None)
    shares = found.attribute_confidence.astype(np.float16).reshape(n, 1)
    return RegionsRow(image_id, width, height, regions, attributes, shares)


def _check_shapes(image_id: str, boxes: Array, features: Array, info: RegionsInfo) -> None:
    if not image_id:
        raise ValueError("no image_id")
    n = len(boxes)
    if boxes.shape != (n, 4) or features.shape != (n, info.feature_size):
        raise ValueError(
            f"wrong sizes: boxes {boxes.shape}, features {features.shape}, expected ({n}, 4) and "
            f"({n}, {info.feature_size})"
        )


def most_likely(probabilities: Array, k: int | None = None) -> tuple[Array, Array]:
    """Returns the k most likely columns of each row and their probabilities, int16 and float16 [n, k], sorted.

    Columns of equal probability keep their order. For example, k = 2 and the row [0.2, 0.5, 0.0, 0.2] give the columns
    [1, 0] and the probabilities [0.5, 0.2].

    Args:
        probabilities: float32 [n, columns]; none is negative.
        k: how many columns; None: all.
    """
    # The bits of a positive float32, taken as an integer, rise with its value. With the column number behind the bits,
    # all keys differ, and NumPy sorts such keys several times as fast as it sorts stably. Adding 0 turns -0 into 0.
    bits = (probabilities.astype(np.float32) + np.float32(0)).view(np.uint32)
    keys = (~bits).astype(np.uint64) << np.uint64(32) | np.arange(bits.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    best = keys[:, :k]
    values = (~(best >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    # Arrow rounds as NumPy does, but NumPy is slow with numbers so small that a float16 has not all bits for them.
    halves = pa.array(values.reshape(-1)).cast(pa.float16(), safe=False).to_numpy().reshape(values.shape)
    return best.astype(np.uint32).astype(np.int16), halves


def distribution_info(
    source: AnyPath, feature_size: int, columns: int | None, class_names: list[str] | None
) -> RegionsInfo:
    """Returns what holds for regions with a distribution over ``columns`` classes; the background is the first.

    Args:
        source: the file, for messages.
        feature_size: numbers in a feature.
        columns: the number of classes; None if the source has no distribution.
        class_names: the names of the classes without the background; None if they are not known.

    Raises:
        InputError: there are more or fewer names than classes.
    """
    if columns is None:
        return RegionsInfo(feature_size, NO_CLASSES, None)
    if class_names is not None and len(class_names) != columns - 1:
        raise InputError(
            f"{source}: cls_prob has {pluralize(columns, 'column')}: the background and {columns - 1} more, "
            f"but {pluralize(len(class_names), 'class name')} are given"
        )
    names = None if class_names is None else ["background", *class_names]
    return RegionsInfo(feature_size, Classes(kind="distribution", count=columns, background=0, names=names), None)


def argmax_info(feature_size: int, class_names: list[str] | None) -> RegionsInfo:
    """Returns what holds for regions of which only the most likely class is known; the background is no class."""
    count = None if class_names is None else len(class_names)
    return RegionsInfo(feature_size, Classes(kind="argmax", count=count, background=None, names=class_names), None)


def to_half(features: Array) -> Array:
    """Returns the features as float16. Values that overflow become infinity, which `Regions.check` rejects."""
    with np.errstate(over="ignore", invalid="ignore"):
        return features.astype(np.float16)


def to_ids(ids: Array, count: int | None) -> Array:
    """Returns class or attribute ids as int16.

    Raises:
        ValueError: an id is negative or not below ``count``.
    """
    limit = count if count is not None else np.iinfo(np.int16).max + 1
    if (ids < 0).any() or (ids >= limit).any():
        raise ValueError(f"a class or attribute id outside 0 to {limit - 1}")
    return ids.astype(np.int16)
