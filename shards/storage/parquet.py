"""Reads and writes Parquet files, on a disk or in an object store.

What is written here tells when it was damaged: each page has a CRC32, and so has the footer, under ``footer_crc32`` in
the metadata of the file. Other readers of Parquet pass over both. Files of others may lack them and are read as well.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from parsers.command import InputError
from shards.storage.files import AnyPath
from shards.storage.unfolding import check_unfolding, limit_unfolding

_CRC32 = "footer_crc32"
_UNKNOWN = "0" * 8
"""stands for the checksum of a footer while it is computed"""
_STORED = re.compile(rb"%s\x18\x08([0-9a-f]{8})" % _CRC32.encode())
"""The checksum in a footer: a name, and a string of eight bytes as Thrift's compact protocol writes it."""
_ENDING = 8
"""A Parquet file ends with the length of its footer in four bytes, and four bytes ``PAR1``."""
_TAIL = 1 << 16
"""This many bytes at the end of a file are read at once, because most footers are smaller."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""The bytes that Arrow takes for a value of each physical type; for a text, that is where it ends."""
_MEASURED = 1 << 26
"""About this many bytes of texts are measured at once."""


class ParquetFile(pq.ParquetFile):  # type: ignore[misc]  # PyArrow has no types
    """A Parquet file whose pages are compared with their checksums, and whose errors are messages that name the file.

    A file of a few kilobytes may repeat one value a billion times. What is read at once is therefore measured before it
    is unfolded, see `check_unfolding`.

    Raises:
        InputError: so does every method if the file cannot be read, is damaged, or unfolds to too much.
    """

    def __init__(self, name: AnyPath | str, stream: BinaryIO, source: dict[str, Any]) -> None:
        """Opens a file.

        Args:
            name: what messages call the file.
            stream: the file, opened.
            source: where Arrow reads it: the first arguments of `pyarrow.parquet.ParquetFile`.
        """
        self._name = name
        with name_errors(name):
            footer, self._bytes = _read_footer(stream)
            metadata = pq.read_metadata(pa.BufferReader(footer))
            self._opened = {**source, "metadata": metadata, "page_checksum_verification": True}
            super().__init__(**self._opened)
        check_unfolding(name, metadata.num_rows * _WIDTHS["BYTE_ARRAY"], self._bytes)

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """See `pyarrow.parquet.ParquetFile`."""
        with name_errors(self._name):
            self._check(range(self.num_row_groups), columns, self.metadata.num_rows)
            return super().read(columns, **options)

    def read_row_group(self, i: int, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        """See `pyarrow.parquet.ParquetFile`."""
        with name_errors(self._name):
            self._check([i], columns, self.metadata.num_rows)
            return super().read_row_group(i, columns, **options)

    def iter_batches(
        self,
        batch_size: int = 1 << 16,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Iterator[pa.RecordBatch]:
        """See `pyarrow.parquet.ParquetFile`."""
        groups = list(range(self.num_row_groups) if row_groups is None else row_groups)
        unchecked = iter(groups)
        missing = batch_size
        with name_errors(self._name):
            batches = super().iter_batches(batch_size, groups, columns, **options)
            while True:
                while missing > 0 and (group := next(unchecked, None)) is not None:
                    self._check([group], columns, batch_size)
                    missing -= self.metadata.row_group(group).num_rows
                if (batch := next(batches, None)) is None:
                    return
                missing += len(batch)
                yield batch

    def _check(self, groups: Iterable[int], columns: Collection[str] | None, rows: int) -> None:
        """Checks what some row groups unfold to where ``rows`` rows are read at once.

        The footer says how many values there are and how many bytes their pages have. Only texts may unfold to more,
        because a dictionary holds each of them once.

        Raises:
            InputError: see `check_unfolding`.
        """
        unfolded = held = 0
        texts: list[tuple[int, str, int, int]] = []
        for number in groups:
            group = self.metadata.row_group(number)
            for place in range(group.num_columns):
                chunk = group.column(place)
                path, kind, values = chunk.path_in_schema, chunk.physical_type, chunk.num_values
                if columns is not None and not any(path == name or path.startswith(f"{name}.") for name in columns):
                    continue
                size, width = chunk.total_uncompressed_size, _WIDTHS.get(kind) or self.schema.column(place).length
                unfolded += max(size, values * width)
                held += chunk.total_compressed_size
                if kind == "BYTE_ARRAY":
                    at_once = values if "." in path else min(values, rows)
                    texts.append((number, path, at_once, size))
        held = min(held, self._bytes)
        check_unfolding(self._name, unfolded, held)
        # Measuring takes time, so a text is first taken to be as long as all texts, then as long as the longest.
        left = limit_unfolding(held) - unfolded
        if sum(values * size for _, _, values, size in texts) <= left:
            return
        if sum(values * self._longest_text(group, path) for group, path, values, _ in texts) <= left:
            return
        for group, path, _, size in texts:
            few = max(1, _MEASURED * self.metadata.row_group(group).num_rows // max(1, size))
            for found in self._texts(group, path, few):
                unfolded += pc.sum(pc.binary_length(found.dictionary).take(found.indices), min_count=0).as_py()
                check_unfolding(self._name, unfolded, held)

    def _longest_text(self, group: int, column: str) -> int:
        """The bytes of the longest text in the dictionary of a column, which is whole in the first row already."""
        first = next(self._texts(group, column, 1), None)
        return 0 if first is None else pc.max(pc.binary_length(first.dictionary)).as_py() or 0

    def _texts(self, group: int, column: str, rows: int) -> Iterator[pa.DictionaryArray]:
        """Yields the texts of a column as places in a dictionary, those of ``rows`` rows at a time."""
        file = pq.ParquetFile(**self._opened, read_dictionary=[column], pre_buffer=False)
        for batch in file.iter_batches(min(rows, 1 << 16), [group], [column], use_threads=False):
            texts = batch.column(0)
            while pa.types.is_nested(texts.type):
                texts = texts.field(0) if pa.types.is_struct(texts.type) else texts.values
            if pa.types.is_dictionary(texts.type):
                yield texts


def parquet_file(path: AnyPath) -> ParquetFile:
    """Opens a Parquet file. Its row groups are read when they are asked for.

    Raises:
        InputError: it is missing, no Parquet file, or its footer is damaged.
    """
    source = {"source": path} if isinstance(path, Path) else {"source": path.path, "filesystem": path.fs}
    with name_errors(path), path.open("rb") as stream:
        return ParquetFile(path, stream, source)


def parquet_in_memory(name: str, data: memoryview) -> ParquetFile:
    """Opens a Parquet file that is in memory, or mapped.

    Raises:
        InputError: see `parquet_file`; the message calls the file ``name``.
    """
    return ParquetFile(name, pa.BufferReader(data), {"source": pa.py_buffer(data)})


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


def _read_footer(stream: BinaryIO) -> tuple[bytes, int]:
    """The end of a file from its footer on, and the size of the file.

    Raises:
        OSError: the file cannot be read, or the footer is damaged.
    """
    size = stream.seek(0, 2)
    tail = _read_end(stream, min(size, _TAIL))
    length = int.from_bytes(tail[-_ENDING:-4], "little") + _ENDING
    if length > size:
        raise OSError("it is cut off, or no Parquet file")
    footer = tail[-length:] if length <= len(tail) else _read_end(stream, length)
    if (stored := _STORED.search(footer)) and stored[1] != _checksum(footer, stored):
        raise OSError("the checksum of its footer differs: it was damaged")
    return footer, size


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
