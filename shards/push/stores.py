"""Object stores and folders: whatever fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from parsers.checksums import sha256_of_stream
from parsers.command import InputError
from shards.push.hub import HUB, HubStore
from shards.push.transfer import PushedFile, State, Store
from shards.storage.files import TEMPORARY

_REQUEST = 1 << 24
"""the number of bytes that one request asks for"""


def open_store(url: str) -> Store:
    """The place that a user named: ``hf://datasets/USER/NAME``, another URL, or the path of a folder.

    Raises:
        InputError: no installed package can reach it.
    """
    if url.startswith(HUB):
        return HubStore.open(url)
    if url.startswith("hf://"):
        raise InputError(f"{url}: a data set of the hub is called {HUB}USER/NAME")
    try:
        files, root = fsspec.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}; for s3:// install `ernie-vil-pytorch[s3]`") from error
    return FileStore(url.rstrip("/"), files, root.rstrip("/"))


class FileStore:
    """A place that fsspec reaches. Every file is read again after it was copied. See `shards.push.transfer.Store`."""

    batch = 1

    def __init__(self, url: str, files: AbstractFileSystem, root: str) -> None:
        self.url, self._files, self._root = url, files, root

    def names(self) -> set[str]:
        """See `shards.push.transfer.Store`."""
        with self._explain(""):
            self._files.invalidate_cache()
            found = self._files.find(self._root)
        names = (path.removeprefix(self._root).lstrip("/") for path in found)
        return {name for name in names if not name.endswith(TEMPORARY)}

    def compare(self, file: PushedFile) -> State:
        """See `shards.push.transfer.Store`."""
        path = f"{self._root}/{file.name}"
        with self._explain(file.name):
            try:
                if self._files.size(path) != file.size:
                    return "other"
                with cast(BinaryIO, self._files.open(path, "rb", block_size=_REQUEST)) as stream:
                    return "same" if sha256_of_stream(stream) == file.sha256 else "other"
            except FileNotFoundError:
                return "missing"

    def put(self, files: Sequence[PushedFile]) -> None:
        """See `shards.push.transfer.Store`."""
        for file in files:
            with self._explain(file.name), self._replace(file.name) as path:
                self._files.put_file(str(file.path), path)

    def write(self, name: str, data: bytes) -> None:
        """See `shards.push.transfer.Store`."""
        with self._explain(name), self._replace(name) as path:
            self._files.pipe_file(path, data)

    def read(self, name: str) -> bytes:
        """See `shards.push.transfer.Store`."""
        with self._explain(name):
            return cast(bytes, self._files.cat_file(f"{self._root}/{name}"))

    def remove(self, name: str) -> None:
        """See `shards.push.transfer.Store`."""
        with self._explain(name):
            self._files.rm_file(f"{self._root}/{name}")

    @contextmanager
    def _replace(self, name: str) -> Iterator[str]:
        """Yields where to write a file. A store shows only whole files; on a disk it is renamed when it is whole."""
        path = f"{self._root}/{name}"
        written = path + TEMPORARY if isinstance(self._files, LocalFileSystem) else path
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        yield written
        if written != path:
            Path(written).replace(path)
        self._files.invalidate_cache()

    @contextmanager
    def _explain(self, name: str) -> Iterator[None]:
        """Turns what the store raises into a message that names the file; each kind of store has its own errors."""
        try:
            yield
        except Exception as error:
            where = f"{self.url}/{name}" if name else self.url
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{where}: {reason}; what was copied stays, run the same command again") from error
