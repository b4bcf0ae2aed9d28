"""``index.parquet``: where each sample lies. One row a sample, one row group a shard, so that a shard is read alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.schema import MEMBERS

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("num_boxes", pa.int32(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        *(pa.field(f"{member}_{what}", pa.int64()) for member in MEMBERS for what in ("offset", "size")),
    ]
)
"""``tokens`` is the number of word pieces of each caption; ``MEMBER_offset`` and ``MEMBER_size`` are bytes from the
start of the tar, null where a sample lacks the member."""


def write(stream: BinaryIO, shards: Iterable[Sequence[dict[str, Any]]]) -> None:
    """Writes the rows of each shard (see `shards.writer.ShardWriter.rows`), in order, as one row group."""
    with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for number, rows in enumerate(shards):
            full = [{**dict.fromkeys(SCHEMA.names), **row, "shard": number} for row in rows]
            writer.write_table(pa.Table.from_pylist(full, SCHEMA), row_group_size=max(1, len(full)))
