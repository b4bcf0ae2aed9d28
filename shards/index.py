"""``index.parquet``: where each sample lies.

The index has one row for each sample and one row group for each shard, so the rows of a shard are read alone.

The index of more than 256 shards is several such files of 256 shards each: ``index-00000.parquet`` has the shards 0 to
255, ``index-00001.parquet`` the shards 256 to 511, and so on. They are kept small because opening a file parses the
description of all its row groups and compares the whole file with its checksum.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.manifest import Manifest
from shards.members import decode_masks, decode_negative_masks, decode_npy, decode_record
from shards.sample_reader import ShardIndex
from shards.schema import MEMBERS, NEGATIVE_MEMBERS, NegativeMasks
from shards.storage.tars import walk_tar

FILE, SHARDS_PER_FILE = "index.parquet", 256
_NUMBERED = "index-{:05d}.parquet"


def _extent_fields(members: Sequence[str]) -> list[pa.Field]:
    return [pa.field(f"{member}_{what}", pa.int64()) for member in members for what in ("offset", "size")]


SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("num_boxes", pa.int32(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        *(_extent_fields(MEMBERS[: -len(NEGATIVE_MEMBERS)])),
    ]
)
"""``tokens`` holds the number of word pieces of each caption. ``crc32`` covers the tar's bytes from the sample's first
header to its last padding. ``MEMBER_offset`` is counted in bytes from the start of the tar; it and ``MEMBER_size`` are
null where a sample lacks the member.

Example: the first sample of a tar has a record of 300 bytes. Its header takes the bytes 0 to 511, so ``json_offset`` is
512 and ``json_size`` 300. The padding ends at 1,024, where the header of ``boxes.npy`` begins; ``boxes.npy_offset`` is
1,536."""
SCHEMA_WITH_NEGATIVES = pa.schema(
    [
        *SCHEMA,
        *_extent_fields(NEGATIVE_MEMBERS),
        pa.field("negative_tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("negative_kinds", pa.list_(pa.uint8()), nullable=False),
    ]
)
"""The columns of sets with false captions: these also have the number of word pieces and the kind of each."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where a sample lies in its tar. The rows of a shard are in the order of the tar.

    Readers take the end of one sample as the start of the next.
    """

    key: str
    width: int
    height: int
    num_boxes: int
    tokens: list[int]
    """the number of word pieces of each caption"""
    crc32: int
    extents: Mapping[str, Sequence[int]]
    """offset and size of each member that the sample has, in bytes"""
    negative_tokens: list[int] = field(default_factory=list)
    """the number of word pieces of each false caption"""
    negative_kinds: list[int] = field(default_factory=list)
    """their kinds, positions in `shards.schema.NEGATIVE_KINDS`"""


def to_table(rows: Sequence[IndexRow]) -> pa.Table:
    """The rows of one shard as a table. The column ``shard`` is 0 until `write` numbers the shards."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA_WITH_NEGATIVES.names}
    plain = ("key", "width", "height", "num_boxes", "tokens", "crc32", "negative_tokens", "negative_kinds")
    for row in rows:
        for name in plain:
            columns[name].append(getattr(row, name))
        columns["shard"].append(0)
        for member in MEMBERS:
            offset, size = row.extents.get(member, (None, None))
            columns[f"{member}_offset"].append(offset)
            columns[f"{member}_size"].append(size)
    arrays = [pa.array(columns[column.name], column.type) for column in SCHEMA_WITH_NEGATIVES]
    return pa.table(arrays, SCHEMA_WITH_NEGATIVES)


def schema_of(manifest: Manifest) -> pa.Schema:
    """The columns of the index of a set."""
    return SCHEMA_WITH_NEGATIVES if manifest.has_negatives else SCHEMA


def write(
    stream: BinaryIO,
    shards: Iterable[Sequence[IndexRow] | pa.Table],
    *,
    first: int = 0,
    schema: pa.Schema = SCHEMA,
) -> None:
    """Writes each shard as one row group. The shards are numbered in their order, from ``first``.

    Args:
        stream: takes the Parquet file.
        shards: for each shard `shards.writer.ShardWriter.rows`, or its table in another index.
        first: number of the first shard.
        schema: the columns.
    """
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for number, rows in enumerate(shards, first):
            table = rows if isinstance(rows, pa.Table) else to_table(rows)
            shard = pa.array(np.full(len(table), number, np.int32))
            table = table.set_column(SCHEMA.get_field_index("shard"), SCHEMA.field("shard"), shard)
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=max(1, len(table)))


def read_rows(table: pa.Table) -> ShardIndex:
    """The rows of one shard, of a set with or without false captions."""
    extents = np.full((len(table), len(MEMBERS), 2), -1, np.int64)
    for number, member in enumerate(MEMBERS):
        for place, what in enumerate(("offset", "size")):
            if (name := f"{member}_{what}") in table.column_names:
                extents[:, number, place] = table[name].fill_null(-1).to_numpy()
    tokens = table["tokens"].combine_chunks()
    negative_tokens, negative_kinds = (
        table[name].combine_chunks()
        if name in table.column_names
        else pa.array([[]] * len(table), SCHEMA_WITH_NEGATIVES.field(name).type)
        for name in ("negative_tokens", "negative_kinds")
    )
    return ShardIndex(
        keys=table["key"].to_pylist(),
        sizes=np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1),
        num_boxes=table["num_boxes"].to_numpy(),
        tokens=tokens.values.to_numpy(),
        caption_offsets=tokens.offsets.to_numpy(),
        crc32=table["crc32"].to_numpy(),
        negative_tokens=negative_tokens.values.to_numpy(),
        negative_kinds=negative_kinds.values.to_numpy(),
        negative_offsets=negative_tokens.offsets.to_numpy(),
        extents=extents,
    )


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of the index."""

    name: str
    sha256: str
    first: int
    """the number of the first shard in the file"""
    shards: int
    """the number of shards in the file"""


def files_of(manifest: Manifest) -> list[IndexFile]:
    """The files of the index of a set, in order.

    A set of 600 shards has three files, with the shards 0 to 255, 256 to 511 and 512 to 599.
    """
    count, sha256 = len(manifest.shards), manifest.index_sha256
    if isinstance(sha256, str):
        return [IndexFile(FILE, sha256, 0, count)]
    firsts = range(0, count, SHARDS_PER_FILE)
    return [
        IndexFile(_NUMBERED.format(number), of_file, first, min(SHARDS_PER_FILE, count - first))
        for number, (first, of_file) in enumerate(zip(firsts, sha256, strict=True))
    ]


def write_files(
    shards: Iterable[Sequence[IndexRow] | pa.Table],
    count: int,
    save: Callable[[str, bytes], object],
    schema: pa.Schema = SCHEMA,
) -> str | list[str]:
    """Writes the index of a set, one file after the other.

    Args:
        shards: for each shard its rows or its table, as `write` takes them.
        count: the number of shards.
        save: is called with the name and the content of each file.
        schema: the columns.

    Returns:
        ``index_sha256`` of the manifest: one checksum, or one for each file if there are several.
    """
    left, checksums = iter(shards), []
    for number in range(max(1, -(-count // SHARDS_PER_FILE))):
        sink = io.BytesIO()
        write(sink, islice(left, SHARDS_PER_FILE), first=number * SHARDS_PER_FILE, schema=schema)
        save(_NUMBERED.format(number) if count > SHARDS_PER_FILE else FILE, sink.getvalue())
        checksums.append(hashlib.sha256(sink.getbuffer()).hexdigest())
    return checksums if count > SHARDS_PER_FILE else checksums[0]


def rows_of_tar(data: memoryview, stream: BinaryIO) -> list[IndexRow]:
    """The rows of the index for a tar that `shards.writer.ShardWriter` wrote, found from its content alone.

    Args:
        data: the content of the tar.
        stream: the same content as a file object.

    Raises:
        ValueError: this is a tar that `ShardWriter` did not write.
        tarfile.TarError: this is no tar, or a damaged one.
    """
    rows: list[IndexRow] = []
    start = 0
    for key, entries in groupby(walk_tar(stream), lambda entry: entry.name.partition(".")[0]):
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
        last = max(sum(extent) for extent in extents.values())
        negatives = _read_negative_masks(data, extents)
        end = last + -last % tarfile.BLOCKSIZE
        rows.append(
            IndexRow(
                key,
                width=width,
                height=height,
                num_boxes=len(decode_npy(boxes)),
                tokens=np.diff(decode_masks(masks).token_offsets).tolist(),
                crc32=zlib.crc32(data[start:end]),
                extents=extents,
                negative_tokens=[] if negatives is None else np.diff(negatives.masks.token_offsets).tolist(),
                negative_kinds=[] if negatives is None else negatives.kinds.tolist(),
            )
        )
        start = end
    return rows


def _read_negative_masks(data: memoryview, extents: Mapping[str, tuple[int, int]]) -> NegativeMasks | None:
    if "negatives.npz" not in extents:
        return None
    offset, size = extents["negatives.npz"]
    return decode_negative_masks(data[offset : offset + size])


def repeated(keys: pa.ChunkedArray) -> list[str]:
    """The keys that occur more than once."""
    counts = pc.value_counts(keys)
    found: list[str] = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    return found
