"""The folder in which a set of shards lies: on this machine, or where fsspec reaches (``s3://``, ``gs://``, ``hf://``)."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import fsspec
from fsspec import AbstractFileSystem

from parsers.command import InputError
from shards.storage.cache import Cache
from shards.storage.errors import ShardError


class Folder(Protocol):
    """The folder of a set of shards."""

    def sizes(self) -> dict[str, int]:
        """Returns the size in bytes of each file of the folder, by file name. Folders inside it are left out.

        The result is empty if there is no such folder.

        Raises:
            InputError: a remote folder cannot be listed.
        """
        ...

    def read(self, name: str) -> bytes:
        """Returns the content of a small file as it is now.

        Raises:
            FileNotFoundError: there is no such file.
            InputError: a remote file cannot be read.
        """
        ...

    def path(self, name: str) -> str:
        """Returns the path or URL of a file, for messages."""
        ...

    def open(self, name: str, sha256: str, size: int) -> BinaryIO:
        """Opens a file on this machine with the content of the file ``name``. A remote file is copied into the cache.

        Args:
            name: the name of the file in the folder.
            sha256: the checksum that a remote file must have, in hexadecimal. A local file is not compared with it.
            size: its size in bytes.
        """
        ...


def open_folder(location: Path | str, cache: Cache | None) -> Folder:
    """The folder at a location. Text with ``://`` is a URL; anything else is a path on this machine."""
    if isinstance(location, str) and "://" in location:
        return RemoteFolder(location.rstrip("/"), cache or Cache.from_environment())
    return LocalFolder(Path(location))


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine."""

    folder: Path

    def sizes(self) -> dict[str, int]:
        """See `Folder`."""
        if not self.folder.is_dir():
            return {}
        with os.scandir(self.folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        with self.open(name) as stream:
            return stream.read()

    def path(self, name: str) -> str:
        """See `Folder`."""
        return str(self.folder / name)

    def open(self, name: str, sha256: str = "", size: int = 0) -> BinaryIO:  # noqa: ARG002 - it is not verified here
        """See `Folder`."""
        path = self.folder / name
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path} is no file; copy the file there again")
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that fsspec reaches. Its files are copied into the cache and compared with their sha256 on the way."""

    url: str
    cache: Cache

    def _files(self) -> tuple[AbstractFileSystem, str]:
        # The file system is looked up each time, because a forked process must not use its parent's connections. fsspec
        # keeps one for each process.
        try:
            return cast(tuple[AbstractFileSystem, str], fsspec.url_to_fs(self.url))
        except (ImportError, ValueError) as error:
            raise InputError(f"{self.url}: {error}; for s3:// install `ernie-vil-pytorch[s3]`") from error

    def sizes(self) -> dict[str, int]:
        """See `Folder`."""
        files, root = self._files()
        try:
            files.invalidate_cache(root)
            entries = files.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each kind of store has its own errors
            raise InputError(f"{self.url} cannot be listed: {error}") from error
        return {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in entries if entry["type"] == "file"}

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        try:
            with self._fetch(name) as stream:
                return stream.read()
        except FileNotFoundError:
            raise
        except Exception as error:
            raise InputError(f"{self.path(name)} cannot be read: {error}") from error

    def path(self, name: str) -> str:
        """See `Folder`."""
        return f"{self.url}/{name}"

    def open(self, name: str, sha256: str, size: int) -> BinaryIO:
        """See `Folder`."""
        try:
            return self.cache.open(sha256, size, self.path(name), lambda: self._fetch(name))
        except InputError:
            raise
        except FileNotFoundError as error:
            raise ShardError(f"{self.path(name)} is missing; the manifest lists it") from error
        except Exception as error:
            raise ShardError(f"{self.path(name)} cannot be copied to {self.cache.folder}: {error}") from error

    def _fetch(self, name: str) -> BinaryIO:
        files, root = self._files()
        return cast(BinaryIO, files.open(f"{root}/{name}", "rb", block_size=_REQUEST))


_REQUEST = 1 << 24
"""the number of bytes that one request asks for"""


def map_file(stream: BinaryIO) -> mmap.mmap:
    """Maps a file into memory for reading, and closes it. The map stays valid even when the file is removed.

    Raises:
        InputError: the file is empty.
    """
    with stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise InputError(f"{stream.name}: holds no bytes; copy it again") from error
