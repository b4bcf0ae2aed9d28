"""Reads and writes Parquet files, on a disk or in an object store."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.storage.files import AnyPath


def parquet_file(path: AnyPath) -> pq.ParquetFile:
    """Opens a Parquet file. Its row groups are read when they are asked for."""
    if isinstance(path, Path):
        return pq.ParquetFile(path)
    return pq.ParquetFile(path.path, filesystem=path.fs)


def write_table(
    stream: BinaryIO, table: pa.Table, metadata: dict[str, str], *, group_rows: int, group_bytes: int
) -> None:
    """Writes a table with metadata.

    Args:
        stream: takes the file.
        table: the rows.
        metadata: what the file says of itself.
        group_rows: a row group has at most this many rows.
        group_bytes: a row group has at most about this many bytes before compression.
    """
    pq.write_table(
        table.replace_schema_metadata(metadata),
        stream,
        row_group_size=max(1, min(group_rows, group_bytes * len(table) // max(1, table.nbytes))),
        compression="zstd",
        compression_level=1,
    )
