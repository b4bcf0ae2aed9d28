"""Text and JSON as people keep them: plain or compressed, with a byte order mark or without.

Every reader here holds a bounded part of its file: a line or an item of a list of `MAX_LINE` bytes.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, AnyStr, BinaryIO, cast

import ijson
import numpy as np
import pyarrow as pa
from fsspec.compression import compr

from parsers.command import InputError
from pipeline.files import check_regular
from shards.storage.files import AnyPath
from shards.storage.unfolding import check_unfolding

MAX_LINE = 1 << 24
"""The longest line or item of JSON that is read, in bytes. The longest known, of Localized Narratives, take 1 MB."""
MAX_DEPTH = 100
"""How deeply JSON may be nested: ijson keeps a path for every level, so memory grows with the square of the depth."""
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""The first bytes of compressed files."""
_BOM = b"\xef\xbb\xbf"
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


@contextmanager
def open_text(path: AnyPath) -> Iterator[BinaryIO]:
    """Opens a file of UTF-8: the bytes are decompressed, and a byte order mark is skipped.

    Raises:
        InputError: the file cannot be read, is damaged, or is not UTF-8 as a whole.
    """
    try:
        check_regular(path)
        with path.open("rb") as opened:
            # The files of stores know no limit of a line.
            raw = opened if isinstance(opened, io.BufferedIOBase) else io.BufferedReader(cast("io.RawIOBase", opened))
            start = raw.read(6)
            kind = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
            beginning = _decompress(path, raw, kind)  # kept: where it ends, Arrow closes the file
            start = beginning.read(4)
            if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
                raise InputError(
                    f"{path}: is text in UTF-16 or UTF-32, or no text; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"
                )
            stream = _decompress(path, raw, kind)
            if start.startswith(_BOM):
                stream.read(len(_BOM))
            yield stream
    except _DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read: {reason}") from error


def _decompress(path: AnyPath, raw: BinaryIO, kind: str | None) -> BinaryIO:
    """Returns the text of a file from its beginning on."""
    raw.seek(0)
    if kind is None:
        return raw
    if kind == "zip":
        raise InputError(f"{path}: is a zip of files; unpack it and name the file")
    # fsspec's reader of zstd ends silently behind a file's first frame, and where a file is cut off.
    text = pa.CompressedInputStream(raw, kind) if kind == "zstd" else compr[kind](raw, mode="rb")
    unfolding = _Unfolding(path, text, path.stat().st_size)
    return io.BufferedReader(unfolding, io.DEFAULT_BUFFER_SIZE * 8)


class _Unfolding(io.RawIOBase):
    """The text of a compressed file, until `check_unfolding` finds that it is too much."""

    def __init__(self, path: AnyPath, stream: io.RawIOBase, held: int) -> None:
        self._path, self._stream, self._held = path, stream, held
        self._unfolded = 0

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See `io.RawIOBase`."""
        count = self._stream.readinto(buffer)
        self._unfolded += count or 0
        check_unfolding(self._path, self._unfolded, self._held)
        return count


def read_bounded_lines(readline: Callable[[int], AnyStr], end: AnyStr) -> Iterator[AnyStr | None]:
    """Yields the lines of a stream with their ends. None stands for a line that is longer than `MAX_LINE`."""
    while line := readline(MAX_LINE):
        whole = len(line) < MAX_LINE or line.endswith(end)
        rest = line
        while not whole and rest:
            rest = readline(MAX_LINE)
            whole = rest.endswith(end)
            line = line[:0]
        yield line or None


def read_items(path: AnyPath, key: str | None) -> Iterator[object]:
    """Yields the items of a JSON array one by one: the list ``key`` of an object, or the file's own if there is no key.

    Memory does not grow with the file.

    Raises:
        InputError: the file cannot be read as JSON, or there is no such list.
    """
    there = False
    with open_json(path, 1 if key is None else 2) as stream:
        for item in ijson.items(stream, "item" if key is None else f"{key}.item", use_float=True):
            there = True
            yield item
    if not there:  # the list may be empty
        with open_json(path) as stream:
            events = ijson.parse(stream, use_float=True)
            there = any(prefix == (key or "") and event == "start_array" for prefix, event, _ in events)
    if not there:
        raise InputError(f"{path}: has no list{'' if key is None else f' `{key}`'}, so it is not of this format")


@contextmanager
def open_json(path: AnyPath, depth: int = MAX_DEPTH) -> Iterator[BinaryIO]:
    """Opens a file for ijson, which must be told ``use_float=True``: without it, a number of 5,000 digits ends Python.

    Args:
        path: the file.
        depth: how many brackets are open around an item that ijson builds; by default, it builds texts and numbers.

    Raises:
        InputError: the file cannot be read as JSON, is nested too deeply, or has an item of more than `MAX_LINE` bytes.
    """
    try:
        with open_text(path) as stream:
            yield cast("BinaryIO", _Bounded(stream, depth))
    except (ijson.JSONError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error


class _Bounded:
    """A stream of JSON whose ``read`` raises ValueError where the brackets nest deeper than `MAX_DEPTH`, and where more
    than `MAX_LINE` bytes follow each other without an end of an item."""

    def __init__(self, stream: BinaryIO, item_depth: int) -> None:
        self._stream = stream
        self._item_depth = item_depth
        self._depth = self._item_bytes = 0
        self._in_string = False
        self._rest = b""
        """a backslash at the end of what was read, whose meaning the next byte decides"""

    def read(self, size: int = -1) -> bytes:
        """Reads as the stream does."""
        data = self._stream.read(size)
        text = (self._rest + data).replace(rb"\\", b"")
        self._rest = b"\\" if text.endswith(b"\\") else b""
        parts = text.replace(rb"\"", b"").split(b'"')
        outside = b"".join(parts[int(self._in_string) :: 2])
        self._in_string ^= len(parts) % 2 == 0
        depths = self._depth + np.cumsum(_STEPS[np.frombuffer(outside.translate(None, _NO_MARKS), np.uint8)])
        if len(depths):
            if depths.max() > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
            self._depth = int(depths[-1])
        self._item_bytes = 0 if (depths <= self._item_depth).any() else self._item_bytes + len(data)
        if self._item_bytes > MAX_LINE:
            raise ValueError(f"an item has more than {MAX_LINE:,} bytes")
        return data


_NO_MARKS = bytes(set(range(256)) - set(b"[]{},"))
_STEPS = np.zeros(256, np.int64)
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1
