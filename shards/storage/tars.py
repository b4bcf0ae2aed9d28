"""Walks over the members of a tar, whatever sizes its headers give."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

MAX_HEADERS = 1 << 20
"""The bytes of the headers of one member: extended headers and sparse maps give their own sizes."""


def walk_tar(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar. It is not decompressed.

    Raises:
        tarfile.TarError: it is no tar, or it is damaged; a member lies outside of it or before the one before it, or
            has headers of more than `MAX_HEADERS`.
    """
    stream.seek(0, io.SEEK_END)
    size = stream.tell()  # the seek of a map returns nothing
    stream.seek(0)
    headers = _Headers(stream)
    try:
        with tarfile.open(fileobj=cast("BinaryIO", headers), mode="r:") as tar:
            while (entry := tar.next()) is not None:
                headers.left = MAX_HEADERS
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every member
                held = 0 if entry.issparse() else entry.size  # that of a sparse file counts its holes
                if tar.offset < entry.offset_data or not 0 <= held <= size - entry.offset_data:
                    raise tarfile.ReadError(f"{entry.name} is said to have {entry.size:,} bytes")
                yield entry
    except (EOFError, ValueError, OverflowError) as error:  # a map raises ValueError when it is read beyond its end
        raise tarfile.ReadError(str(error)) from error


class _Headers:
    """A tar as tarfile reads its headers: what it reads for one member is bounded, whatever sizes they give."""

    def __init__(self, stream: BinaryIO) -> None:
        self.left = MAX_HEADERS
        """how many bytes may still be read for the next member"""
        self.seek, self.tell = stream.seek, stream.tell
        self._read = stream.read

    def read(self, size: int) -> bytes:
        """Reads as the stream does."""
        self.left -= max(size, tarfile.BLOCKSIZE)
        if size < 0 or self.left < 0:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADERS:,} bytes")
        return self._read(size)
