"""Writes samples into a tar. Equal samples give equal bytes."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zlib
from itertools import groupby
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from shards.index import IndexRow
from shards.manifest import ShardInfo, Totals
from shards.members import Chunks, encode_sample
from shards.schema import KINDS, NegativeMasks, Sample, key_of


class ShardWriter:
    """Writes one shard to an open binary file. It is a context manager; leaving the context ends the tar.

    Afterwards ``info`` describes the shard for the manifest, ``rows`` are its rows of the index, and ``totals`` counts
    what it holds. Times, owners and modes in the tar are fixed. Long names are stored as GNU tar stores them.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self.rows: list[IndexRow] = []
        self._file = file
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0
        self._keys: set[str] = set()
        self._nodes = np.zeros(len(KINDS), np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            end = self._size + 2 * tarfile.BLOCKSIZE
            self._append([bytes(-end % tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE)])

    def write(self, sample: Sample) -> None:
        """Adds a sample.

        Raises:
            ValueError: the image id is empty or already in this shard, or the regions or the masks are not valid.
                The sample leaves no trace then.
        """
        if not sample.image_id:
            raise ValueError("an empty image id")
        key = key_of(sample.image_id)
        if key in self._keys:
            raise ValueError(f"image {sample.image_id!r} is in the shard already")
        sample.regions.check(sample.width, sample.height)
        sample.masks.check()
        if sample.negative_masks is not None:
            sample.negative_masks.check(len(sample.captions))
        self._keys.add(key)
        blocks: Chunks = []
        extents: dict[str, tuple[int, int]] = {}
        position = self._size
        for extension, chunks in encode_sample(sample):
            size = sum(map(len, chunks))
            header = tar_header(f"{key}.{extension}", size)
            padding = bytes(-size % tarfile.BLOCKSIZE)
            blocks += (header, *chunks, padding)
            extents[extension] = position + len(header), size
            position += len(header) + size + len(padding)
        crc32 = self._append(blocks)
        self.rows.append(
            IndexRow(
                key,
                width=sample.width,
                height=sample.height,
                num_boxes=len(sample.regions.boxes),
                tokens=np.diff(sample.masks.token_offsets).tolist(),
                crc32=crc32,
                extents=extents,
                negative_tokens=_count_pieces(sample.negative_masks),
                negative_kinds=[] if sample.negative_masks is None else sample.negative_masks.kinds.tolist(),
            )
        )
        self._nodes += np.bincount(sample.masks.node_kind, minlength=len(KINDS))

    def _append(self, blocks: Chunks) -> int:
        """Writes bytes and returns their crc32. Small pieces are joined before they are written; large ones are not."""
        crc32 = 0
        for large, pieces in groupby(blocks, lambda block: len(block) > _LARGE):
            for data in pieces if large else (b"".join(pieces),):
                self._stream.write(data)
                self._digest.update(data)
                self._size += len(data)
                crc32 = zlib.crc32(data, crc32)
        return crc32

    @property
    def totals(self) -> Totals:
        """The counts of what was written so far."""
        objects, attributes, relations = self._nodes.tolist()
        return Totals(
            samples=len(self.rows),
            captions=sum(len(row.tokens) for row in self.rows),
            boxes=sum(row.num_boxes for row in self.rows),
            tokens=sum(sum(row.tokens) for row in self.rows),
            objects=objects,
            attributes=attributes,
            relations=relations,
            negatives=sum(len(row.negative_kinds) for row in self.rows),
        )

    @property
    def info(self) -> ShardInfo:
        """The name, size and checksum of the tar. They are final when the context is left."""
        return ShardInfo(file=self._file, samples=len(self.rows), bytes=self._size, sha256=self._digest.hexdigest())


def _count_pieces(negatives: NegativeMasks | None) -> list[int]:
    return [] if negatives is None else np.diff(negatives.masks.token_offsets).tolist()


_LARGE = 1 << 14
"""Pieces of more bytes than this are written as they are; to join them would copy them."""

# The fields of a header: name; mode, user and group; size; time; checksum; type, linked name, magic and version, owners
# and padding.
_HEADER = struct.Struct("100s24s12s12s8s356s")
_TIME = b"00000000000\0"


class _HeaderKind:
    """Makes the headers of one type of entry, which differ in name and size only."""

    def __init__(self, mode: bytes, kind: bytes) -> None:
        self._owner, self._kind = mode + 2 * b"0000000\0", kind + bytes(100) + b"ustar  \0"
        self._sum = sum(self._owner + _TIME + b" " * 8 + self._kind)  # the field of the checksum counts as blanks

    def header(self, name: bytes, size: int) -> bytes:
        length = b"%011o\0" % size
        checksum = b"%06o\0 " % (self._sum + sum(name) + sum(length))
        return _HEADER.pack(name, self._owner, length, _TIME, checksum, self._kind)


_FILE, _LONG_NAME = _HeaderKind(b"0000644\0", b"0"), _HeaderKind(b"0000000\0", b"L")


def tar_header(name: str, size: int) -> bytes:
    """The blocks that precede a file in a tar: the bytes that `tarfile` writes in GNU format."""
    encoded = name.encode()
    if size >= 8**11:
        entry = tarfile.TarInfo(name)
        entry.size = size
        return entry.tobuf(tarfile.GNU_FORMAT)
    header = _FILE.header(encoded[: tarfile.LENGTH_NAME], size)
    if len(encoded) <= tarfile.LENGTH_NAME:
        return header
    # A name that is too long for a header is the content of an entry of its own, which precedes the file's.
    length = len(encoded) + 1
    ending = bytes(1 + -length % tarfile.BLOCKSIZE)
    return _LONG_NAME.header(b"././@LongLink", length) + encoded + ending + header
