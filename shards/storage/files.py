"""Files that are there whole or not at all, and room for them.

A file is published on a disk by a rename after it was flushed, on an object store by one completed upload of what was
first written to a local temporary file.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from upath import UPath

from parsers.command import InputError

AnyPath = Path | UPath
TEMPORARY = ".tmp"
_SENT_AT_ONCE = 1 << 22
"""Bytes of a new file that start on their way to the disk together."""
os.umask(_UMASK := os.umask(0))  # it can only be read by setting it


class _Written(io.FileIO):
    """A file whose bytes are written to the disk while more are made, so that little is left to wait for in the end."""

    _sent = 0

    def write(self, data: Any, /) -> int:
        """See `io.RawIOBase`."""
        size = super().write(data)
        end = self.tell()
        if end - self._sent >= _SENT_AT_ONCE:
            # For Linux it means to start writing these pages. It waits for nothing, and drops none that is not written.
            os.posix_fadvise(self.fileno(), self._sent, end - self._sent, os.POSIX_FADV_DONTNEED)
            self._sent = end
        return size


class NewFile:
    """A file that is written aside and then published.

    ``stream`` takes the bytes; `publish` makes them appear as ``path``; `discard` forgets them.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: a worker that was given up for lost may still be writing the same file.
        handle, aside = (
            tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
            if isinstance(path, Path)
            else tempfile.mkstemp(TEMPORARY)
        )
        self._aside = Path(aside)
        self.stream: BinaryIO = io.BufferedWriter(_Written(handle, "wb"))
        os.fchmod(handle, 0o666 & ~_UMASK)

    def flush(self) -> None:
        """Ends the writing: the bytes are safe on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.size = self.stream.tell()
        self.stream.close()

    def publish(self) -> None:
        """Makes the file appear."""
        if isinstance(self.path, Path):
            self._aside.replace(self.path)
        else:
            self.path.fs.put_file(str(self._aside), self.path.path)
            self._aside.unlink()

    def discard(self) -> None:
        """Removes what was written, also where the disk had no room for the rest of it."""
        with suppress(OSError):  # to close is to write what is still held back
            self.stream.close()
        self._aside.unlink(missing_ok=True)


def write_atomic(path: AnyPath, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut."""
    file = NewFile(path)
    try:
        file.stream.write(data)
        file.flush()
        file.publish()
    except BaseException:
        file.discard()
        raise


def flush(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_free_disk(folder: AnyPath, needed: int, what: str) -> None:
    """Refuses to start what would fill the disk. ``folder`` need not exist yet. Object stores have no bound.

    Raises:
        InputError: the disk has less than ``needed`` bytes free.
    """
    if not isinstance(folder, Path):
        return
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{what} needs {needed:,} bytes, but the disk of {folder} has {free:,} free; "
            "make room or name a folder on another disk"
        )


def read_lines(path: AnyPath) -> list[str]:
    """The lines of a small text file. U+2028 and its like are no line ends: an image id may hold them.

    Raises:
        InputError: it cannot be read as UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []


def read_json(path: Path) -> Any:
    """Raises InputError if the file is missing or no JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """One value a line. Raises InputError if the file is missing, or a line no JSON."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: is no JSON: {error}") from error
    return values


def write_json(value: Any, path: Path) -> None:
    """Whole or not at all."""
    write_atomic(path, orjson.dumps(value) + b"\n")


def sha256_of(path: Path) -> str:
    """The checksum of a file. Raises InputError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
