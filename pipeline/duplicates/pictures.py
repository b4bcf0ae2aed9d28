"""When two pictures nearly repeat each other: their perceptual hashes differ in few bits.

`pipeline.extract` sees the pixels, so it writes the hashes, to ``hashes/`` in the folder of the regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from PIL import Image, ImageStat

from shards.schema import Array
from shards.stage_folder import open_part
from shards.storage.files import AnyPath
from shards.storage.parquet import write_table

HASHES = "hashes"
"""the folder of the tables, one for each part of the regions"""
_VERSION = "1"
_SIDE = 16
_BYTES = _SIDE * _SIDE // 8
HASH_TABLE = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("hash", pa.binary(_BYTES))])
"""The columns of the tables. The hash of a picture that shows nearly nothing is null."""
MAX_BITS = 32
"""Two pictures are alike up to this many different bits of 256. The closest of 5,151 pairs of photos differed in 98; of
photos that were shrunk, compressed again or made grey, none differed from the original in more than 16."""
_PLAIN = 4.0
"""A picture whose grey values deviate less than this shows nearly nothing, and its hash would be that of noise."""
_TABLES, _KEY_BITS = 32, 20
"""Pictures that differ in 16 bits share a key with a probability above 99.9 %, in 24 bits 99 %, in 32 bits 90 %."""
_POSITIONS = np.random.default_rng(0).permuted(np.tile(np.arange(1, _SIDE * _SIDE), (_TABLES, 1)), axis=1)
"""the order in which a table looks at the bits; bit 0 is the mean brightness, which nearly all pictures share"""


def hash_picture(pixels: Array) -> bytes | None:
    """Returns the perceptual hash of a picture (pHash with 16 x 16 frequencies), or None if it shows nearly nothing.

    Args:
        pixels: uint8 [height, width, 3], RGB.
    """
    import imagehash  # imported late, because SciPy's transforms take half a second

    grey = Image.fromarray(pixels).convert("L").resize((4 * _SIDE, 4 * _SIDE), Image.Resampling.LANCZOS)
    if ImageStat.Stat(grey).stddev[0] < _PLAIN:
        return None
    return np.packbits(imagehash.phash(grey, hash_size=_SIDE).hash).tobytes()


def write_hashes(stream: BinaryIO, image_ids: Sequence[str], hashes: Sequence[bytes | None]) -> None:
    """Writes the table of a part of the regions."""
    columns = [pa.array(values, field.type) for values, field in zip((image_ids, hashes), HASH_TABLE, strict=True)]
    table = pa.table(columns, HASH_TABLE)
    write_table(stream, table, {"hashes_version": _VERSION}, group_rows=1 << 16, group_bytes=1 << 24)


def read_hashes(folder: AnyPath) -> Iterator[pa.RecordBatch]:
    """Yields the hashes of a folder of regions; there are none where `pipeline.extract` did not write it.

    Raises:
        InputError: a table is damaged.
    """
    parts: list[AnyPath] = sorted((folder / HASHES).glob("part-*.parquet"), key=str)
    for part in parts:
        yield from open_part(part, "hashes_version", {_VERSION: HASH_TABLE}).iter_batches()


class PictureIndex:
    """Pictures by their perceptual hashes. See `pipeline.duplicates.search.Index`.

    Pictures of equal hashes are one entry. It takes about 60 bytes for each picture.
    """

    tables = _TABLES

    def __init__(self, hashes: Iterable[pa.Array]) -> None:
        """Reads the hashes.

        Args:
            hashes: binary [32], some at a time; null where a picture has none.
        """
        column = pa.chunked_array(list(hashes), HASH_TABLE.field("hash").type).combine_chunks()
        known = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.drop_null()
        start = values.offset * _BYTES
        data = np.frombuffer(values.buffers()[1] or b"", np.uint8)[start : start + len(values) * _BYTES]
        rows = data.view(np.dtype((np.void, _BYTES)))
        unique, entries = np.unique(rows, return_inverse=True)
        self._hashes = unique.view(np.uint8).reshape(-1, _BYTES)
        self.entries = np.full(len(column), -1)
        """int64 [pictures], the entry of each picture; -1: it has no hash"""
        self.entries[known] = entries

    def __len__(self) -> int:
        return len(self._hashes)

    def keys(self, table: int) -> Array:
        """See `pipeline.duplicates.search.Index`."""
        keys = np.zeros(len(self), np.uint32)
        for position in _POSITIONS[table, :_KEY_BITS].tolist():
            keys = keys << 1 | (self._hashes[:, position // 8] >> (7 - position % 8) & 1)
        return keys

    def similarity(self, entries: Array, other: PictureIndex, others: Array) -> Array:
        """The share of equal bits; see `pipeline.duplicates.search.Index`."""
        words, other_words = self._hashes.view(np.uint64)[entries], other._hashes.view(np.uint64)[others]
        bits = np.bitwise_count(words ^ other_words).sum(axis=1, dtype=np.int64)
        return np.where(bits <= MAX_BITS, 1 - bits / (8 * _BYTES), 0).astype(np.float32)
