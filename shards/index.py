"""``index.parquet``: where each sample lies. One row a sample, one row group a shard, so that a shard is read alone.

The index of more than 256 shards is several such files, ``index-00000.parquet`` and so on, of 256 shards each: to open
one, all that it says of its row groups is parsed, and the whole file is compared with its checksum.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.members import decode_masks, decode_npy, decode_record
from shards.schema import MEMBERS, Array, Manifest

FILE, SHARDS_PER_FILE = "index.parquet", 256
_NUMBERED = "index-{:05d}.parquet"

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
"""``tokens`` is the number of word pieces of each caption; ``crc32`` covers the tar's bytes from the sample's first
header to its last padding; ``MEMBER_offset`` and ``MEMBER_size`` are bytes from the start of the tar, null where a
sample lacks the member."""


def make_row(
    key: str,
    *,
    width: int,
    height: int,
    num_boxes: int,
    token_offsets: Array,
    crc32: int,
    extents: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """A row of the index without its shard; ``extents`` are offset and size by member.

    Readers find where a sample starts as the end of the one before it, so rows are in the order of the tar.
    """
    row: dict[str, Any] = {
        "key": key,
        "width": width,
        "height": height,
        "num_boxes": num_boxes,
        "tokens": (token_offsets[1:] - token_offsets[:-1]).tolist(),
        "crc32": crc32,
    }
    for member, (offset, size) in extents.items():
        row[f"{member}_offset"], row[f"{member}_size"] = offset, size
    return row


def to_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows of one shard, whose number is set when they are written."""
    return pa.Table.from_pylist([{**dict.fromkeys(SCHEMA.names), "shard": 0, **row} for row in rows], SCHEMA)


def write(stream: BinaryIO, shards: Iterable[Sequence[dict[str, Any]] | pa.Table], *, first: int = 0) -> None:
    """Writes the rows of each shard, in order and numbered from ``first``, as one row group.

    The rows are those of `shards.writer.ShardWriter.rows`, or a table of another index.
    """
    with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for number, rows in enumerate(shards, first):
            table = rows if isinstance(rows, pa.Table) else to_table(rows)
            shard = pa.array(np.full(len(table), number, np.int32))
            table = table.set_column(SCHEMA.get_field_index("shard"), SCHEMA.field("shard"), shard)
            writer.write_table(table.cast(SCHEMA), row_group_size=max(1, len(table)))


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of the index."""

    name: str
    sha256: str
    first: int
    """number of its first shard"""
    shards: int


def files_of(manifest: Manifest) -> list[IndexFile]:
    """The files of the index of a set, in order."""
    count, sha256 = len(manifest.shards), manifest.index_sha256
    if isinstance(sha256, str):
        return [IndexFile(FILE, sha256, 0, count)]
    firsts = range(0, count, SHARDS_PER_FILE)
    return [
        IndexFile(_NUMBERED.format(number), of_file, first, min(SHARDS_PER_FILE, count - first))
        for number, (first, of_file) in enumerate(zip(firsts, sha256, strict=True))
    ]


def write_files(
    shards: Iterable[Sequence[dict[str, Any]] | pa.Table], count: int, save: Callable[[str, bytes], object]
) -> str | list[str]:
    """Writes the index of ``count`` shards, file by file, and returns the checksums for the manifest.

    ``save`` gets the name and the content of each file; the rows are those of `write`.
    """
    left, checksums = iter(shards), []
    for number in range(max(1, -(-count // SHARDS_PER_FILE))):
        sink = io.BytesIO()
        write(sink, islice(left, SHARDS_PER_FILE), first=number * SHARDS_PER_FILE)
        save(_NUMBERED.format(number) if count > SHARDS_PER_FILE else FILE, sink.getvalue())
        checksums.append(hashlib.sha256(sink.getbuffer()).hexdigest())
    return checksums if count > SHARDS_PER_FILE else checksums[0]


def rows_of_tar(data: memoryview, stream: BinaryIO) -> list[dict[str, Any]]:
    """The rows of a tar that `shards.writer.ShardWriter` wrote, from its content alone, as bytes and as a file.

    Raises:
        ValueError: it is no such tar.
        tarfile.TarError: it is no tar.
    """
    rows, start = [], 0
    with tarfile.open(fileobj=stream) as tar:
        for key, entries in groupby(tar, lambda entry: entry.name.partition(".")[0]):
            extents = {entry.name.partition(".")[2]: (entry.offset_data, entry.size) for entry in entries}
            if not set(extents) <= set(MEMBERS):
                raise ValueError(f"sample {key} has unknown members {sorted(set(extents) - set(MEMBERS))}")
            try:
                record, boxes, masks = (
                    data[offset : offset + size]
                    for offset, size in (extents[member] for member in ("json", "boxes.npy", "masks.npz"))
                )
            except KeyError as error:
                raise ValueError(f"sample {key} has no member {error}") from error
            _, width, height, _ = decode_record(record)
            last = sum(extents["masks.npz"])
            end = last + -last % tarfile.BLOCKSIZE
            rows.append(
                make_row(
                    key,
                    width=width,
                    height=height,
                    num_boxes=len(decode_npy(boxes)),
                    token_offsets=decode_masks(masks).token_offsets,
                    crc32=zlib.crc32(data[start:end]),
                    extents=extents,
                )
            )
            start = end
    return rows


def repeated(keys: pa.ChunkedArray) -> list[str]:
    """The keys that occur more than once."""
    counts = pc.value_counts(keys)
    found: list[str] = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    return found
