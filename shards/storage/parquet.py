"""Reads and writes Parquet files, on a disk or in an object store.

What is written here tells when it was damaged: each page has a CRC32, and so has the footer, under ``footer_crc32`` in
the metadata of the file. Other readers of Parquet pass over both. Files of others may lack them and are read as well.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from parsers.command import InputError
from shards.storage.files import AnyPath

_CRC32 = "footer_crc32"
_UNKNOWN = "0" * 8
"""stands for the checksum of a footer while it is computed"""
_STORED = re.compile(rb"%s\x18\x08([0-9a-f]{8})" % _CRC32.encode())
"""The checksum in a footer: a name, and a string of eight bytes as Thrift's compact protocol writes it."""
_ENDING = 8
"""A Parquet file ends with the length of its footer in four bytes, and four bytes ``PAR1``."""
_TAIL = 1 << 16
"""This many bytes at the end of a file are read at once, because most footers are smaller."""


class ParquetFile(pq.ParquetFile):  # type: ignore[misc]  # PyArrow has no types
    """A Parquet file whose pages are compared with their checksums, and whose errors are messages that name the file.

    Raises:
        InputError: so does every method if the file cannot be read or is damaged.
    """

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        with name_errors(path):
            files = {} if isinstance(path, Path) else {"filesystem": path.fs}
            where = path if isinstance(path, Path) else path.path
            metadata = pq.read_metadata(pa.BufferReader(_read_footer(path)))
            super().__init__(where, metadata=metadata, page_checksum_verification=True, **files)

    def read(self, *arguments: Any, **options: Any) -> pa.Table:
        """See `pyarrow.parquet.ParquetFile`."""
        with name_errors(self._path):
            return super().read(*arguments, **options)

    def read_row_group(self, *arguments: Any, **options: Any) -> pa.Table:
        """See `pyarrow.parquet.ParquetFile`."""
        with name_errors(self._path):
            return super().read_row_group(*arguments, **options)

    def iter_batches(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        """See `pyarrow.parquet.ParquetFile`."""
        with name_errors(self._path):
            yield from super().iter_batches(*arguments, **options)


def parquet_file(path: AnyPath) -> ParquetFile:
    """Opens a Parquet file. Its row groups are read when they are asked for.

    Raises:
        InputError: it is missing, no Parquet file, or its footer is damaged.
    """
    return ParquetFile(path)


@contextmanager
def name_errors(path: AnyPath | str) -> Iterator[None]:
    """Turns what Arrow raises of a damaged file into a message that names the file.

    Raises:
        InputError: reading raised an error of Arrow or of the disk.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as Parquet: {reason}; restore it or write it again") from error


def _read_footer(path: AnyPath) -> bytes:
    """The end of a file from its footer on.

    Raises:
        OSError: the file cannot be read, or the footer is damaged.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        tail = _read_end(stream, min(size, _TAIL))
        length = int.from_bytes(tail[-_ENDING:-4], "little") + _ENDING
        if length > size:
            raise OSError("it is cut off, or no Parquet file")
        footer = tail[-length:] if length <= len(tail) else _read_end(stream, length)
    if (stored := _STORED.search(footer)) and stored[1] != _checksum(footer, stored):
        raise OSError("the checksum of its footer differs: it was damaged")
    return footer


def _read_end(stream: BinaryIO, length: int) -> bytes:
    stream.seek(-length, 2)
    return stream.read(length)


def _checksum(footer: bytes, stored: re.Match[bytes]) -> bytes:
    """The checksum of a footer, computed as if it stored no checksum itself."""
    start, end = stored.span(1)
    return b"%08x" % zlib.crc32(footer[end:], zlib.crc32(_UNKNOWN.encode(), zlib.crc32(footer[:start])))


class _Sink:
    """Passes bytes on, and keeps those of the footer, which come last."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.footer: bytearray | None = None

    def write(self, data: bytes) -> int:
        if self.footer is None:
            return self._stream.write(data)
        self.footer += data
        return len(data)

    def flush(self) -> None:
        """The one who opened the stream flushes it."""


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
    table = table.replace_schema_metadata(metadata)
    rows = max(1, min(group_rows, group_bytes * len(table) // max(1, table.nbytes)))
    sink = _Sink(stream)
    options = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table, rows)
        writer.add_key_value_metadata({_CRC32: _UNKNOWN})
        sink.footer = bytearray()
    length = int.from_bytes(sink.footer[-_ENDING:-4], "little") + _ENDING
    pages, footer = bytes(sink.footer[:-length]), bytes(sink.footer[-length:])
    stored = _STORED.search(footer)
    assert stored is not None, "Arrow writes the metadata as it was given"
    start, end = stored.span(1)
    stream.write(pages + footer[:start] + _checksum(footer, stored) + footer[end:])
