"""What all formats share: the protocol, and the checks that turn arrays into the regions of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from parsers.command import InputError
from pipeline.execution.parts import Reject
from shards.manifest import Classes
from shards.regions.table import RegionsInfo, RegionsRow
from shards.schema import Array, Regions
from shards.storage.files import AnyPath

Rows = Iterator[RegionsRow | Reject]
NO_CLASSES = Classes(kind="none", count=None, background=None, names=None)


class RegionFormat(Protocol):
    """A published layout of region features."""

    def inspect(self, sources: Sequence[AnyPath], class_names: list[str] | None) -> RegionsInfo:
        """What holds for all rows, read off the first good one.

        Raises:
            InputError: the sources are not of this format.
        """
        ...

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """The files that the sources name, in the order in which they are read."""
        ...

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Any]:
        """Picklable partitions of about ``size`` images."""
        ...

    def read(self, partition: Any, info: RegionsInfo) -> Rows:
        """The images of a partition."""
        ...


def make_row(
    image_id: str, width: int, height: int, boxes: Array, features: Array, distribution: Array | None, info: RegionsInfo
) -> RegionsRow:
    """Checks the regions of an image and stores them as the table has them.

    Args:
        boxes: [n, 4]
        features: [n, d]
        distribution: [n, classes], column 0 the background; None where the source has none.

    Raises:
        ValueError: with the reason why they are not valid.
    """
    if not image_id:
        raise ValueError("no image id")
    n = len(boxes)
    if boxes.shape != (n, 4) or features.shape != (n, info.feature_size):
        raise ValueError(
            f"wrong sizes: boxes {boxes.shape}, features {features.shape}, expected ({n}, 4) and "
            f"({n}, {info.feature_size})"
        )
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


def most_likely(probabilities: Array, k: int | None = None) -> tuple[Array, Array]:
    """The k most likely columns of each row and their probabilities, int16 and float16 [n, k]; None: all, sorted.

    Of equal ones the first column comes first. No probability is negative.
    """
    # The bits of a float32 rise with its value. With the column behind them, numbers are sorted that all differ, which
    # NumPy does several times as fast as it finds a stable order. To add 0 makes a positive zero of a negative one.
    bits = (probabilities.astype(np.float32) + np.float32(0)).view(np.uint32)
    keys = (~bits).astype(np.uint64) << np.uint64(32) | np.arange(bits.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    best = keys[:, :k]
    values = (~(best >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    # Arrow rounds as NumPy does, but is not slow where numbers are too small to have all bits of a float16.
    halves = pa.array(values.reshape(-1)).cast(pa.float16(), safe=False).to_numpy().reshape(values.shape)
    return best.astype(np.uint32).astype(np.int16), halves


def distribution_info(
    source: AnyPath, feature_size: int, columns: int | None, class_names: list[str] | None
) -> RegionsInfo:
    """What holds for regions with a distribution over ``columns`` classes, the background first, or with none.

    Raises:
        InputError: there are not as many names as classes.
    """
    if columns is None:
        return RegionsInfo(feature_size, NO_CLASSES, None)
    if class_names is not None and len(class_names) != columns - 1:
        raise InputError(
            f"{source}: cls_prob has {columns} columns, background and {columns - 1} classes, "
            f"but {len(class_names)} class names are given"
        )
    names = None if class_names is None else ["background", *class_names]
    return RegionsInfo(feature_size, Classes(kind="distribution", count=columns, background=0, names=names), None)


def to_half(features: Array) -> Array:
    """float16; what overflows becomes infinity, which `Regions.check` rejects."""
    with np.errstate(over="ignore", invalid="ignore"):
        return features.astype(np.float16)


def to_ids(ids: Array, count: int | None) -> Array:
    """int16 class or attribute ids.

    Raises:
        ValueError: one is negative or not below ``count``.
    """
    limit = count if count is not None else np.iinfo(np.int16).max + 1
    if (ids < 0).any() or (ids >= limit).any():
        raise ValueError(f"a class or attribute id outside 0 to {limit - 1}")
    return ids.astype(np.int16)
