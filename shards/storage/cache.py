"""Keeps copies of remote files in a folder of bounded size, which several processes may use at once.

A copy is named by its SHA-256. So it is never stale, and a copy that another process, another run or another set of
shards fetched is found again.

A copy appears whole or not at all. While a process fetches it, it is a ``.partial`` file that the process has locked. A
killed process leaves a partial file without a lock; the next process that needs the file fills it anew.

The tars that were opened longest ago are removed to make room. A removed tar that is still mapped stays readable: its
bytes leave the disk with the last map.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from parsers.command import InputError
from shards.errors import ShardError

_PARTIAL = ".partial"
_EVICTED = (".tar", _PARTIAL)
"""Files with these endings may be removed. Indices and vocabularies stay, because readers always need them."""
_BLOCK = 1 << 22
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Cache:
    """A cache of shards in a folder."""

    folder: Path
    limit: int
    """the most bytes that tars may take; indices and vocabularies come on top"""

    @classmethod
    def from_environment(cls) -> Cache:
        """The cache that the environment names.

        ``ERNIE_VIL_CACHE`` is the folder, by default ``~/.cache/ernie-vil-pytorch``. ``ERNIE_VIL_CACHE_GB`` is the
        limit in gigabytes, by default 50.

        Raises:
            InputError: ``ERNIE_VIL_CACHE_GB`` is no number.
        """
        folder = os.environ.get("ERNIE_VIL_CACHE", "~/.cache/ernie-vil-pytorch")
        gigabytes = os.environ.get("ERNIE_VIL_CACHE_GB", "50")
        try:
            return cls(Path(folder).expanduser(), int(float(gigabytes) * 1e9))
        except ValueError:
            raise InputError(f"ERNIE_VIL_CACHE_GB is {gigabytes!r}; it takes a number, e.g. 50") from None

    def open(self, sha256: str, size: int, source: str, fetch: Callable[[], BinaryIO]) -> BinaryIO:
        """Opens the local copy of a file. If there is none, the file is fetched first.

        Args:
            sha256: the checksum of the file.
            size: its size in bytes.
            source: its URL, for messages; the copy has the same ending.
            fetch: opens the remote file.

        Raises:
            InputError: the cache or the disk is too small.
            ShardError: the remote file has another size or checksum.
        """
        path = self.folder / (sha256 + Path(source).suffix)
        while True:
            try:
                stream = path.open("rb")
            except FileNotFoundError:
                self._fill(path, sha256, size, source, fetch)
            else:
                os.utime(stream.fileno())
                return stream

    def _fill(self, path: Path, sha256: str, size: int, source: str, fetch: Callable[[], BinaryIO]) -> None:
        room = size if path.suffix in _EVICTED else 0
        if room > self.limit:
            raise InputError(
                f"{source} has {size:,} bytes, the cache {self.folder} holds {self.limit:,}; set ERNIE_VIL_CACHE_GB"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + _PARTIAL)
        with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if path.exists() or not _is_at(partial, stream):
                return  # While this process waited for the lock, another one fetched the file or removed it.
            try:
                stream.truncate(0)
                self._reserve(stream, size, room, source)
                with fetch() as remote:
                    _copy(remote, stream, sha256, size, source)
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            with self._alone():
                partial.replace(path)

    def _reserve(self, stream: BinaryIO, size: int, room: int, source: str) -> None:
        """Waits until the cache has ``room`` bytes left, and then takes ``size`` bytes of the disk for the file."""
        while True:
            with self._alone():
                if self._make_room(room):
                    try:
                        os.posix_fallocate(stream.fileno(), 0, size)
                    except OSError as error:
                        raise InputError(
                            f"no room for {source} ({size:,} bytes) in {self.folder}: {error.strerror}; "
                            "set ERNIE_VIL_CACHE to a folder on another disk"
                        ) from error
                    return
            time.sleep(_POLL_SECONDS)  # Files that other processes are fetching take all the room.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from taking room or renaming files while this one counts and removes files."""
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> bool:
        found = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # a process whose fetch failed has removed the file meanwhile
                if entry.name.endswith(_EVICTED):
                    found.append((entry.stat(), Path(entry.path)))
        total = size + sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda item: item[0].st_mtime_ns):
            if total <= self.limit:
                break
            if _evict(path):
                total -= stat.st_size
        return total <= self.limit


def _evict(path: Path) -> bool:
    """Removes a file, unless a process is filling it. Returns whether the file is gone."""
    try:
        with path.open("rb") as stream:
            if path.suffix == _PARTIAL:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _is_at(path: Path, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _copy(remote: BinaryIO, local: BinaryIO, sha256: str, size: int, source: str) -> None:
    digest, count = hashlib.sha256(), 0
    while count <= size and (block := remote.read(_BLOCK)):
        digest.update(block)
        local.write(block)
        count += len(block)
    if count != size:
        raise ShardError(f"{source} has {'more than ' * (count > size)}{min(count, size):,} bytes, expected {size:,}")
    if digest.hexdigest() != sha256:
        raise ShardError(f"{source}: its sha256 differs from the manifest's: the file was changed or damaged")
