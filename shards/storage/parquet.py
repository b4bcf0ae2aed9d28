"""Parquet files on any file system."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.storage.files import AnyPath


def parquet_file(path: AnyPath) -> pq.ParquetFile:
    """Opens a Parquet file; row groups are read when they are asked for."""
    if isinstance(path, Path):
        return pq.ParquetFile(path)
    return pq.ParquetFile(path.path, filesystem=path.fs)


def write_table(
    stream: BinaryIO, table: pa.Table, metadata: dict[str, str], *, group_rows: int, group_bytes: int
) -> None:
    """Writes a table with its metadata, in row groups of at most so many rows and, about, so many bytes."""
    pq.write_table(
        table.replace_schema_metadata(metadata),
        stream,
        row_group_size=max(1, min(group_rows, group_bytes * len(table) // max(1, table.nbytes))),
        compression="zstd",
        compression_level=1,
    )
