"""The table of regions: `pipeline.regions` and `pipeline.extract` write it, with one row for each image.

A folder of regions holds the table in parts, which are Parquet files. Each part says in its metadata what holds for all
rows (`RegionsInfo`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from parsers.command import InputError, pluralize
from shards.manifest import Classes
from shards.schema import Array, Regions
from shards.stage_folder import find_null, open_part, read_part_metadata
from shards.storage.files import AnyPath
from shards.storage.parquet import ParquetFile, write_table

REGIONS_VERSION = "1"
REGIONS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("features", pa.binary(), nullable=False),
        pa.field("class_ids", pa.list_(pa.list_(pa.int16()))),
        pa.field("class_probs", pa.list_(pa.list_(pa.float16()))),
        pa.field("attribute_ids", pa.list_(pa.list_(pa.int16()))),
        pa.field("attribute_probs", pa.list_(pa.list_(pa.float16()))),
    ]
)


_ATTRIBUTE_NAMES: TypeAdapter[tuple[str, ...] | None] = TypeAdapter(tuple[str, ...] | None)


@dataclass(frozen=True)
class RegionsInfo:
    """What holds for all rows of a regions folder."""

    feature_size: int
    """the numbers that describe a region"""
    classes: Classes
    """what the class ids and class probabilities of the rows mean"""
    attribute_names: tuple[str, ...] | None
    """the name of each attribute, in the order of their ids; None if the detector finds no attributes"""

    def to_metadata(self) -> dict[str, str]:
        """The same as metadata of a Parquet file."""
        return {
            "regions_version": REGIONS_VERSION,
            "feature_size": str(self.feature_size),
            "classes": self.classes.model_dump_json(),
            "attribute_names": json.dumps(self.attribute_names),
        }

    @classmethod
    def from_file(cls, path: AnyPath) -> RegionsInfo:
        """Reads the metadata of a part of a regions folder.

        Raises:
            InputError: this is no such part.
        """
        metadata = read_part_metadata(path, "regions_version", [REGIONS_VERSION])
        try:
            names = _ATTRIBUTE_NAMES.validate_json(metadata["attribute_names"])
            classes = Classes.model_validate_json(metadata["classes"])
            size = int(metadata["feature_size"])
            if size < 1:
                raise ValueError("feature_size is not positive")
        except (KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: its metadata cannot be read: {reason}; run its stage again") from error
        return cls(size, classes, names)


@dataclass(frozen=True)
class RegionsRow:
    """A row of the table: the regions of an image."""

    image_id: str
    width: int
    """of the image, in pixels"""
    height: int
    regions: Regions
    attribute_ids: Array | None = None
    """int16 [n, k]: the k most likely attributes of each region, most likely first"""
    attribute_probs: Array | None = None
    """float16 [n, k]: their probabilities"""


def label_regions(
    regions: Regions,
    classes: Classes,
    attribute_ids: Array | None = None,
    attribute_names: Sequence[str] | None = None,
) -> list[tuple[str, float]]:
    """Names the regions for people.

    Args:
        regions: their class ids and class probabilities are used.
        classes: what the class ids mean.
        attribute_ids: int16 [n, k], the most likely first.
        attribute_names: what the attribute ids mean.

    Returns:
        For each region the name of its most likely class that is not the background, after its most likely attribute
        ("red cube") if attributes are given, and the probability of the class. The list is empty if the regions have no
        classes.
    """
    ids, probabilities = regions.class_ids, regions.class_probs
    if ids is None or probabilities is None or not ids.size:
        return []
    best = np.where(ids == classes.background, -1, probabilities.astype(np.float32)).argmax(axis=1)[:, None]
    names = classes.names or []
    numbers, shares = (np.take_along_axis(a, best, 1)[:, 0].tolist() for a in (ids, probabilities))
    labels = [_name(names, number) for number in numbers]
    if attribute_ids is not None and attribute_names is not None:
        found = (_name(attribute_names, number) for number in attribute_ids[:, 0].tolist())
        labels = [f"{attribute} {label}" for attribute, label in zip(found, labels, strict=True)]
    return list(zip(labels, shares, strict=True))


def _name(names: Sequence[str], number: int) -> str:
    """The name of a class or an attribute, or its number if it has no name."""
    return names[number] if 0 <= number < len(names) else str(number)


def read_rows(table: pa.Table, feature_size: int) -> Iterator[RegionsRow | ValueError]:
    """The rows of a table with the columns of `REGIONS`. Their arrays are views of the table.

    The columns of classes and attributes may be missing; the rows then have none.

    Returns:
        For each row a `RegionsRow`, or a ValueError that says why it is damaged.
    """
    if (column := find_null(table, REGIONS)) is not None:
        yield from (ValueError(f"a null among the values of {column}") for _ in range(len(table)))
        return
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    boxes = columns["boxes"]
    corners = boxes.values.flatten().to_numpy().reshape(-1, 4)
    starts = boxes.offsets.to_numpy()
    matrices = [_Matrices(columns[name]) if name in columns else None for name in REGIONS.names[5:]]
    sizes = zip(*(columns[name].to_pylist() for name in ("image_id", "width", "height")), strict=True)
    for i, (image_id, width, height) in enumerate(sizes):
        features = np.frombuffer(columns["features"][i].as_buffer(), "<f2")
        n = int(starts[i + 1] - starts[i])
        try:
            if features.size != n * feature_size:
                raise ValueError(
                    f"{pluralize(features.size, 'feature value')} for {pluralize(n, 'box')} of {feature_size}"
                )
            ids, probabilities, attributes, attribute_probabilities = (None if m is None else m[i] for m in matrices)
        except ValueError as error:
            yield error
            continue
        regions = Regions(corners[starts[i] : starts[i + 1]], features.reshape(n, feature_size), ids, probabilities)
        yield RegionsRow(image_id, width, height, regions, attributes, attribute_probabilities)


class _Matrices:
    """The matrices in a column of the type list<list<number>>, as views of the column.

    The matrix i is ``[i]``; it is None where the column is null.
    """

    def __init__(self, column: pa.ListArray) -> None:
        self._values, self._inner = column.values.values.to_numpy(), column.values.offsets.to_numpy()
        self._outer, self._present = column.offsets.to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)

    def __getitem__(self, i: int) -> Array | None:
        if not self._present[i]:
            return None
        ends = self._inner[self._outer[i] : self._outer[i + 1] + 1]
        widths = np.diff(ends)
        if len(widths) and (widths != widths[0]).any():
            raise ValueError("the rows of a matrix differ in length")
        matrix: Array = self._values[ends[0] : ends[-1]].reshape(len(widths), widths[0] if len(widths) else 0)
        return matrix


def regions_table(rows: Sequence[RegionsRow]) -> pa.Table:
    """The table of some rows, with the columns of `REGIONS`."""
    regions = [row.regions for row in rows]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in regions)])
    columns = {
        "image_id": pa.array([row.image_id for row in rows], pa.string()),
        "width": pa.array([row.width for row in rows], pa.int32()),
        "height": pa.array([row.height for row in rows], pa.int32()),
        "boxes": pa.ListArray.from_arrays(
            _offsets(len(r.boxes) for r in regions), pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), 4)
        ),
        "features": pa.array([np.ascontiguousarray(r.features, "<f2").tobytes() for r in regions], pa.binary()),
        "class_ids": _to_lists([r.class_ids for r in regions], pa.int16()),
        "class_probs": _to_lists([r.class_probs for r in regions], pa.float16()),
        "attribute_ids": _to_lists([row.attribute_ids for row in rows], pa.int16()),
        "attribute_probs": _to_lists([row.attribute_probs for row in rows], pa.float16()),
    }
    return pa.table(columns, REGIONS)


def write_regions(stream: BinaryIO, rows: Sequence[RegionsRow], info: RegionsInfo) -> None:
    """Writes a part of a regions folder.

    Its row groups are small, because fine-tuning reads single rows in any order and decodes a whole row group for each.
    """
    write_table(stream, regions_table(rows), info.to_metadata(), group_rows=64, group_bytes=1 << 20)


def open_regions(path: AnyPath) -> ParquetFile:
    """Opens a part of a regions folder.

    Raises:
        InputError: this is no such part, or it has other columns than `REGIONS`.
    """
    return open_part(path, "regions_version", {REGIONS_VERSION: REGIONS})


def read_image_ids(path: AnyPath) -> pa.ChunkedArray:
    """The image ids of a part of a regions folder, in the order of its rows.

    Raises:
        InputError: this is no such part, or an image has no id.
    """
    ids = open_regions(path).read(["image_id"])
    if find_null(ids, REGIONS) is not None:
        raise InputError(f"{path}: a row has no image_id; run its stage again")
    return ids["image_id"]


def _offsets(lengths: Iterable[int]) -> pa.Array:
    return pa.array(np.cumsum([0, *lengths]).astype(np.int32))


def _to_lists(matrices: Sequence[Array | None], kind: pa.DataType) -> pa.Array:
    """A column of the type list<list<kind>> that holds some matrices; None becomes null."""
    present = [matrix for matrix in matrices if matrix is not None]
    values = np.concatenate([matrix.reshape(-1) for matrix in present]) if present else np.zeros(0)
    inner = pa.ListArray.from_arrays(
        _offsets(matrix.shape[1] for matrix in present for _ in range(len(matrix))),
        pa.array(values.astype(kind.to_pandas_dtype())),
    )
    missing = pa.array([matrix is None for matrix in matrices], pa.bool_())
    return pa.ListArray.from_arrays(_offsets(0 if m is None else len(m) for m in matrices), inner, mask=missing)
