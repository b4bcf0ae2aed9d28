"""A folder of copies of remote files, bounded in size, that several processes may use at once.

A copy is named by its sha256, so it is never stale: what another process, another run or another set of shards fetched
is found again. A copy appears whole or not at all. While it is fetched it is a ``.partial`` file that its process holds
locked; a killed process leaves a partial file without a lock, which the next one that needs it fills anew. The tars
that were opened longest ago make room. One that is still mapped stays readable: its name goes, its bytes go with the
last map.
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
"""Index and vocabulary stay: a reader needs them all the time."""
_BLOCK = 1 << 22
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Cache:
    """A cache of at most ``limit`` bytes of shards; index and vocabulary come on top."""

    folder: Path
    limit: int

    @classmethod
    def from_environment(cls) -> Cache:
        """``ERNIE_VIL_CACHE``, by default ``~/.cache/ernie-vil-pytorch``; ``ERNIE_VIL_CACHE_GB``, by default 50."""
        folder = os.environ.get("ERNIE_VIL_CACHE", "~/.cache/ernie-vil-pytorch")
        gigabytes = os.environ.get("ERNIE_VIL_CACHE_GB", "50")
        try:
            return cls(Path(folder).expanduser(), int(float(gigabytes) * 1e9))
        except ValueError:
            raise InputError(f"ERNIE_VIL_CACHE_GB is {gigabytes!r}; it takes a number, e.g. 50") from None

    def open(self, sha256: str, size: int, source: str, fetch: Callable[[], BinaryIO]) -> BinaryIO:
        """The local copy of a file, fetched first where it is missing.

        Args:
            sha256: checksum of the file
            size: in bytes
            source: what the file is called, for messages; its suffix becomes the copy's
            fetch: opens the remote file

        Raises:
            InputError: the cache or the disk is too small.
            ShardError: what was fetched has another size or checksum.
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
                return  # While this process waited for the lock, another one fetched the file or cleared it away.
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
        """Takes ``size`` bytes of the disk, and ``room`` of the cache's limit, for a partial file."""
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
            time.sleep(_POLL_SECONDS)  # All the room is taken by files that other processes are fetching.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While a process counts and clears files, no other takes room and no file changes its name."""
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> bool:
        found = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # a fetch failed meanwhile
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
    """Removes a file, unless a process is filling it."""
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
