"""Files here or elsewhere: a path is anything that fsspec reaches (``data/x``, ``s3://…``, ``gs://…``, ``hf://…``).

A file is published whole or not at all: on a disk by a rename after it was flushed, on an object store by one
completed upload of what was first written to a local temporary file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from upath import UPath

from shards.errors import InputError

AnyPath = Path | UPath
TEMPORARY = ".tmp"
_GLOB = frozenset("*?[")
os.umask(_UMASK := os.umask(0))  # it can only be read by setting it


def location(text: str | Path) -> UPath:
    """The path that a user named.

    Raises:
        InputError: no installed package can reach it.
    """
    try:
        path = UPath(text)
        # A cached listing would hide what other processes have written since.
        return path if is_local(path) else UPath(text, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(f"{text}: cannot be reached: {error}") from error


def expand(sources: Iterable[str | Path]) -> list[UPath]:
    """The paths that users named, patterns (``s3://bucket/*.tar``) replaced by what they match, in sorted order.

    Raises:
        InputError: a pattern matches nothing, or a file is missing or cannot be read.
    """
    paths = []
    for source in sources:
        path = location(source)
        if _exists(path):
            paths.append(path)
        elif _GLOB & set(str(source)):
            found = sorted(path.fs.glob(path.path))
            if not found:
                raise InputError(f"{source}: matches no file")
            prefix = "" if is_local(path) else f"{path.protocol}://"
            paths += [location(prefix + match) for match in found]
        else:
            raise InputError(f"{source}: there is no such file or folder")
    return paths


def _exists(path: UPath) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be reached: {error}") from error


def is_local(path: AnyPath) -> bool:
    """Whether the path is on a disk of this machine."""
    return isinstance(path, Path)


def fingerprint(path: AnyPath) -> dict[str, Any]:
    """Names an input file by path, size and what changes when it is written again.

    That is the modification time on a disk, and the store's own description of the object (checksum, time) elsewhere.
    """
    try:
        size = path.stat().st_size
        if isinstance(path, Path):
            return {"path": str(path.resolve()), "bytes": size, "modified_ns": path.stat().st_mtime_ns}
        return {"path": str(path), "bytes": size, "version": path.fs.ukey(path.path)}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def parquet_file(path: AnyPath) -> pq.ParquetFile:
    """Opens a Parquet file; row groups are read when they are asked for."""
    if isinstance(path, Path):
        return pq.ParquetFile(path)
    return pq.ParquetFile(path.path, filesystem=path.fs)


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
        self.stream: BinaryIO = os.fdopen(handle, "wb")
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
        """Removes what was written."""
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


def remove_leftovers(folder: AnyPath) -> None:
    """Removes what killed runs were writing."""
    if isinstance(folder, Path):
        for path in folder.rglob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)


def remove_tree(folder: AnyPath) -> None:
    """Removes a folder and all that is in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.fs.rm(folder.path, recursive=True)


def check_free_space(folder: AnyPath, needed: int, what: str) -> None:
    """Refuses long work that the disk cannot hold. Object stores have no bound.

    Raises:
        InputError: fewer than ``needed`` bytes are free.
    """
    if not isinstance(folder, Path):
        return
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{what} will write about {needed / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free")


def read_lines(path: AnyPath) -> list[str]:
    """The lines of a small text file.

    Raises:
        InputError: it cannot be read as UTF-8 text.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return text.removesuffix("\n").split("\n") if text else []
