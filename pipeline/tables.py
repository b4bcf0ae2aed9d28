"""The Parquet tables between the stages: graphs and regions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import parquet_file
from shards.errors import InputError
from shards.files import AnyPath
from shards.schema import Array, Classes, Regions

GRAPHS_VERSION = "1"
REGIONS_VERSION = "1"
ROW_GROUP = {"graphs": 4096, "regions": 64}
"""Rows a row group. Regions are large, and a row group is what a reader must hold at once."""

_node = [pa.field("lemma", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())]
_span = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
GRAPHS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("caption_id", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("segments", pa.list_(pa.int32())),
        pa.field("objects", pa.list_(pa.struct(_node)), nullable=False),
        pa.field("attributes", pa.list_(pa.struct([pa.field("object", pa.int32()), *_node])), nullable=False),
        pa.field(
            "relations",
            pa.list_(
                pa.struct(
                    [
                        pa.field("subject", pa.int32()),
                        pa.field("object", pa.int32()),
                        pa.field("lemma", pa.string()),
                        pa.field("spans", pa.list_(_span)),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
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


@dataclass(frozen=True)
class RegionsInfo:
    """What holds for all rows of a regions folder."""

    feature_size: int
    classes: Classes
    attribute_names: tuple[str, ...] | None

    def to_metadata(self) -> dict[str, str]:
        """As Parquet file metadata."""
        return {
            "regions_version": REGIONS_VERSION,
            "feature_size": str(self.feature_size),
            "classes": self.classes.model_dump_json(),
            "attribute_names": json.dumps(self.attribute_names),
        }

    @classmethod
    def from_file(cls, path: AnyPath) -> RegionsInfo:
        """Reads it from a part of a regions folder."""
        metadata = read_metadata(path, "regions_version", REGIONS_VERSION)
        names = json.loads(metadata["attribute_names"])
        return cls(
            int(metadata["feature_size"]),
            Classes.model_validate_json(metadata["classes"]),
            None if names is None else tuple(names),
        )


@dataclass(frozen=True)
class RegionsRow:
    """The regions of an image as a row of the table."""

    image_id: str
    width: int
    height: int
    regions: Regions
    attribute_ids: Array | None = None
    """int16 [n, k]"""
    attribute_probs: Array | None = None
    """float16 [n, k]"""


def regions_table(rows: Sequence[RegionsRow]) -> pa.Table:
    """Rows as a table of `REGIONS`."""
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


def _offsets(lengths: Iterable[int]) -> pa.Array:
    return pa.array(np.cumsum([0, *lengths]).astype(np.int32))


def _to_lists(matrices: Sequence[Array | None], kind: pa.DataType) -> pa.Array:
    """list<list<kind>>, null where there is no matrix."""
    present = [matrix for matrix in matrices if matrix is not None]
    values = np.concatenate([matrix.reshape(-1) for matrix in present]) if present else np.zeros(0)
    inner = pa.ListArray.from_arrays(
        _offsets(matrix.shape[1] for matrix in present for _ in range(len(matrix))),
        pa.array(values.astype(kind.to_pandas_dtype())),
    )
    missing = pa.array([matrix is None for matrix in matrices], pa.bool_())
    return pa.ListArray.from_arrays(_offsets(0 if m is None else len(m) for m in matrices), inner, mask=missing)


def read_rows(table: pa.Table, feature_size: int) -> Iterator[RegionsRow | ValueError]:
    """The rows of a table of `REGIONS`, their arrays views of it; an error where features and boxes do not fit."""
    columns = {name: table[name].combine_chunks() for name in REGIONS.names}
    boxes = columns["boxes"]
    corners = boxes.values.flatten().to_numpy().reshape(-1, 4)
    starts = boxes.offsets.to_numpy()
    matrices = [_Matrices(columns[name]) for name in REGIONS.names[5:]]
    sizes = zip(*(columns[name].to_pylist() for name in ("image_id", "width", "height")), strict=True)
    for i, (image_id, width, height) in enumerate(sizes):
        features = np.frombuffer(columns["features"][i].as_buffer(), "<f2")
        n = int(starts[i + 1] - starts[i])
        try:
            if features.size != n * feature_size:
                raise ValueError(f"{features.size} feature values for {n} boxes of {feature_size}")
            ids, probabilities, attributes, attribute_probabilities = (matrix[i] for matrix in matrices)
        except ValueError as error:
            yield error
            continue
        regions = Regions(corners[starts[i] : starts[i + 1]], features.reshape(n, feature_size), ids, probabilities)
        yield RegionsRow(image_id, width, height, regions, attributes, attribute_probabilities)


class _Matrices:
    """The matrices of a list<list<number>> column, as views of it."""

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


def write_table(stream: BinaryIO, kind: str, table: pa.Table, metadata: dict[str, str]) -> None:
    """Writes a graphs or regions table with its metadata."""
    pq.write_table(
        table.replace_schema_metadata(metadata),
        stream,
        row_group_size=ROW_GROUP[kind],
        compression="zstd",
        compression_level=1,
    )


def read_metadata(path: AnyPath, key: str, version: str) -> dict[str, str]:
    """The metadata of a Parquet file that one of our stages wrote.

    Raises:
        InputError: it is no such file, or of another version.
    """
    try:
        raw = parquet_file(path).schema_arrow.metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    metadata = {name.decode(): value.decode() for name, value in raw.items() if not name.startswith(b"ARROW:")}
    if metadata.get(key) != version:
        raise InputError(f"{path}: {key} is {metadata.get(key)}, this release reads {version}; run its stage again")
    return metadata


def parts_of(folder: AnyPath) -> list[AnyPath]:
    """The parts of a finished stage, in order.

    Raises:
        InputError: the folder holds none, or its stage did not finish.
    """
    if not (folder / "report.json").is_file():
        raise InputError(
            f"{folder}: has no report.json, which a stage writes last; run the command that writes it (again)"
        )
    parts: list[AnyPath] = sorted(folder.glob("part-*.parquet"), key=str)
    if not parts:
        raise InputError(f"{folder}: holds no part-*.parquet; its stage had nothing to write")
    return parts
