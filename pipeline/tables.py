"""The Parquet tables between the stages: graphs and regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.regions import REGIONS, RegionsRow
from shards.schema import Array

GRAPHS_VERSION = "1"
ROW_GROUP = {"graphs": (4096, 1 << 24), "regions": (64, 1 << 20)}
"""Most rows and, about, most bytes of a row group. Fine-tuning reads single rows of regions in any order, and to read
one it decodes a row group."""

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


def write_table(stream: BinaryIO, kind: str, table: pa.Table, metadata: dict[str, str]) -> None:
    """Writes a graphs or regions table with its metadata."""
    rows, size = ROW_GROUP[kind]
    pq.write_table(
        table.replace_schema_metadata(metadata),
        stream,
        row_group_size=max(1, min(rows, size * len(table) // max(1, table.nbytes))),
        compression="zstd",
        compression_level=1,
    )
