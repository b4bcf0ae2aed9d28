"""The table of captions and their graphs, one row for each caption, which `pipeline.parse` writes as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from parsers.command import InputError
from shards.stage_folder import find_null, open_part
from shards.storage.files import AnyPath
from shards.storage.parquet import ParquetFile, write_table

GRAPHS_VERSION = "1"
OF_SPLIT = "captions of the split "
"""The statistics call the captions of a split this, and its name."""
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
NODE_COLUMNS = ("objects", "attributes", "relations")
"""The columns that hold the nodes of a graph."""


def write_graphs(stream: BinaryIO, table: pa.Table, metadata: dict[str, str]) -> None:
    """Writes a part of the table with the metadata of its stage."""
    write_table(stream, table, metadata, group_rows=4096, group_bytes=1 << 24)


def open_graphs(path: AnyPath) -> ParquetFile:
    """Opens a part of a graphs folder.

    Raises:
        InputError: this is no such part, or it has other columns than `GRAPHS`.
    """
    return open_part(path, "graphs_version", GRAPHS_VERSION, GRAPHS)


def read_graphs(path: AnyPath, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yields a part of a graphs folder in batches of at most ``rows`` rows.

    Args:
        path: the part.
        rows: the rows of a batch.
        columns: the columns to read; None: all.

    Raises:
        InputError: see `open_graphs`; or a value is null where no stage writes one.
    """
    file = open_graphs(path)
    columns = [name for name in columns or GRAPHS.names if name in file.schema_arrow.names]
    for batch in file.iter_batches(rows, columns=columns):
        if (column := find_null(batch, GRAPHS)) is not None:
            raise InputError(f"{path}: a null among the values of {column}; run its stage again")
        yield batch
