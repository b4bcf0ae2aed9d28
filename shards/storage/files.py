"""Writes files that appear whole or not at all, reads small ones, and checks that a disk has room.

On a disk, a file is written under a temporary name, flushed and then renamed. In an object store, a local temporary
file becomes one completed upload.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
from upath import UPath

from parsers.command import InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

AnyPath = Path | UPath
TEMPORARY = ".tmp"
"""The ending of the names of files and folders that are not finished."""
_CHECKSUM = "sha256"
_SEAL = b'\n{"sha256":"%s"}\n'
_SENT_AT_ONCE = 1 << 22
"""After this many bytes of a new file, the disk is asked to write them."""


# ------------------------------------------------------------------------------------------------------------ writing


class _EagerFile(io.FileIO):
    """A file whose bytes go to the disk while more are made, so that flushing it has little left to wait for.

    A write that fails names the file that was to be written; Python's own error names none.
    """

    _sent = 0

    def __init__(self, handle: int, path: AnyPath) -> None:
        super().__init__(handle, "wb")
        self._path = path

    def write(self, data: ReadableBuffer, /) -> int:
        """See `io.RawIOBase`."""
        try:
            size = super().write(data)
        except OSError as error:
            error.filename = str(self._path)
            raise
        end = self.tell()
        if end - self._sent >= _SENT_AT_ONCE:
            # Linux takes this advice to start writing these pages. It waits for nothing and drops no unwritten page.
            os.posix_fadvise(self.fileno(), self._sent, end - self._sent, os.POSIX_FADV_DONTNEED)
            self._sent = end
        return size


class NewFile:
    """A file that is first written under a temporary name.

    The bytes go to ``stream``. Then `flush` and `publish` make them appear as ``path``, or `discard` removes them. The
    file has the permissions that the umask leaves.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(path, Path):
            # The name is unique, because a worker that was given up for lost may still be writing the same file.
            self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
            handle = os.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        else:
            handle, temporary = tempfile.mkstemp(TEMPORARY)
            self.temporary = Path(temporary)
        self.stream: BinaryIO = io.BufferedWriter(_EagerFile(handle, path))

    def flush(self) -> None:
        """Ends the writing. Afterwards the bytes survive a power cut."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.size = self.stream.tell()
        self.stream.close()

    def publish(self) -> None:
        """Makes the file appear under its path."""
        if isinstance(self.path, Path):
            self.temporary.replace(self.path)
        else:
            self.path.fs.put_file(str(self.temporary), self.path.path)
            self.temporary.unlink()

    def discard(self) -> None:
        """Removes what was written, also if the disk had no room for the rest of it."""
        with suppress(OSError):  # closing the stream tries to write what it still holds
            self.stream.close()
        self.temporary.unlink(missing_ok=True)


def write_atomic(path: AnyPath, data: bytes) -> None:
    """Writes a file that appears whole or not at all, even after a power cut."""
    file = NewFile(path)
    try:
        file.stream.write(data)
        file.flush()
        file.publish()
    except BaseException:
        file.discard()
        raise


@contextmanager
def replace_atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path for a library to write to, and then makes that file appear as ``path``.

    The file gets the permissions that the umask leaves, whichever the library gave it. safetensors, for one, makes
    files that only their owner can read.
    """
    file = NewFile(path)
    try:
        file.flush()
        mode = file.temporary.stat().st_mode
        yield file.temporary
        file.temporary.chmod(mode)
        flush(file.temporary)
        file.publish()
    except BaseException:
        file.discard()
        raise


def write_json(value: object, path: AnyPath) -> None:
    """Writes a value as JSON in one line. The file appears whole or not at all."""
    write_atomic(path, orjson.dumps(value) + b"\n")


def write_indented_json(record: Mapping[str, object], path: AnyPath) -> None:
    """Writes a record as JSON that people can read, one value a line. The file appears whole or not at all."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    # Names of files may hold bytes that are no UTF-8, as lone surrogates. JSON has an escape for these.
    write_atomic(path, text.encode(errors="backslashreplace"))


def write_record(record: Mapping[str, object], path: AnyPath) -> None:
    """Writes a record as `write_indented_json` does, with a checksum as its last value. `read_record` reads it."""
    write_indented_json({**record, _CHECKSUM: _digest(record)}, path)


def seal(data: bytes) -> bytes:
    """The content of a file, with a last line that holds its checksum. `unseal` takes both apart."""
    return data + _SEAL % hashlib.sha256(data).hexdigest().encode()


def flush(path: Path) -> None:
    """Makes the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_free_disk(folder: AnyPath, needed: int, what: str) -> None:
    """Refuses to start what would fill the disk. Object stores are taken to have room for everything.

    Args:
        folder: where the files will lie; it need not exist yet.
        needed: bytes.
        what: the subject of the error message.

    Raises:
        InputError: the disk has fewer than ``needed`` bytes free.
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


# ------------------------------------------------------------------------------------------------------------ reading


def read_text_lines(path: AnyPath) -> list[str]:
    """The lines of a small text file. U+2028 and the like do not end a line, because an image id may hold them.

    Raises:
        InputError: the file cannot be read as UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []


def read_json(path: AnyPath) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: the file cannot be read, or it is no JSON.
    """
    data = _read_bytes(path)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error


def read_record(path: AnyPath) -> dict[str, Any]:
    """The record that `write_record` wrote. One of an earlier release, without a checksum, is read as it is.

    Raises:
        InputError: the file cannot be read, holds no record, or the record differs from its checksum.
    """
    try:
        record = json.loads(_read_bytes(path))  # names of files may be lone surrogates, which orjson refuses
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds no JSON object")
    name, stored = next(reversed(record.items()), ("", None))
    rest = {key: value for key, value in record.items() if key != name}
    expected = _digest(rest)
    if (name, stored) == (_CHECKSUM, expected):
        return rest
    if name == _CHECKSUM or stored == expected:  # the second if the name of the checksum itself is damaged
        raise InputError(f"{path}: differs from the checksum in it: it was damaged or changed; restore it")
    return record


def unseal(data: bytes, path: AnyPath) -> bytes:
    """The content that `seal` was given; error messages call the file ``path``.

    Raises:
        InputError: the content differs from its checksum, or there is none.
    """
    content = data[: -len(_SEAL % bytes(64))]
    if seal(content) != data:
        raise InputError(f"{path}: differs from the checksum at its end: it was damaged or changed")
    return content


def read_json_lines(path: AnyPath) -> list[Any]:
    """The values in a file that has one JSON value a line.

    Raises:
        InputError: the file cannot be read, or a line is no JSON.
    """
    values = []
    for number, line in enumerate(_read_bytes(path).splitlines(), 1):
        try:
            values.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: is no JSON: {error}") from error
    return values


def _digest(record: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read_bytes(path: AnyPath) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
