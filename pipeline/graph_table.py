"""The table of captions and their graphs, one row for each caption, which `pipeline.parse` writes as Parquet."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa

from shards.storage.parquet import write_table

GRAPHS_VERSION = "1"
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
