"""Keeps copies of remote files in a folder of bounded size, which several processes may use at once.

A copy is named by its SHA-256 alone. So it is never stale, and a copy that another process, another run or another set
of shards fetched is found again. A process compares a copy with its name when it first opens it; a damaged one is
fetched again. Links are not followed, and files with other names are left alone.

A copy appears whole or not at all. While a process fetches it, it is a ``.partial`` file that the process has locked. A
killed process leaves a partial file without a lock; the next process that needs the file fills it anew.

The tars that were opened longest ago are removed to make room. A removed tar that is still mapped stays readable: its
bytes leave the disk with the last map.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from parsers.checksums import sha256_of_stream
from parsers.command import InputError
from shards.storage.errors import ShardError

_TAR, _PARTIAL = ".tar", ".partial"
_SHA256 = re.compile("[0-9a-f]{64}")
_EVICTED = re.compile(rf"{_SHA256.pattern}(\{_TAR}(\{_PARTIAL})?|\.parquet\{_PARTIAL})")
"""Files with such names may be removed. Indices stay, because readers always need them."""
_BLOCK = 1 << 22
_POLL_SECONDS = 0.05
_verified: set[tuple[str, int, int, int]] = set()
"""the copies that this process has compared with their checksums: checksum, device, inode and size"""


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
            sha256: the checksum of the file, in hexadecimal.
            size: its size in bytes.
            source: its URL, for messages; ``.tar`` at its end makes a copy that may be removed.
            fetch: opens the remote file.

        Raises:
            InputError: the cache or the disk is too small.
            ShardError: the remote file has another size or checksum, or ``sha256`` is no checksum.
        """
        if not _SHA256.fullmatch(sha256):
            raise ShardError(f"{source}: {sha256!r} is no SHA-256; nothing else may name a file of the cache")
        path = self.folder / (sha256 + (_TAR if source.endswith(_TAR) else ".parquet"))
        while True:
            try:
                stream = _open(path, os.O_RDONLY)
            except FileNotFoundError:
                self._fill(path, sha256, size, source, fetch)
                continue
            if _is_sound(stream, sha256, size):
                os.utime(stream.fileno())
                return stream
            stream.close()
            path.unlink(missing_ok=True)  # the next round fetches it again

    def _fill(self, path: Path, sha256: str, size: int, source: str, fetch: Callable[[], BinaryIO]) -> None:
        room = size if path.suffix == _TAR else 0
        if room > self.limit:
            raise InputError(
                f"{source} has {size:,} bytes, the cache {self.folder} holds {self.limit:,}; set ERNIE_VIL_CACHE_GB"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(path.name + _PARTIAL)
        with _open(partial, os.O_RDWR | os.O_CREAT) as stream:
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
                _verified.add(_identify(stream, sha256))
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
        with _open(self.folder / ".lock", os.O_RDWR | os.O_CREAT) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> bool:
        found = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # a process whose fetch failed has removed the file meanwhile
                if _EVICTED.fullmatch(entry.name):
                    found.append((entry.stat(follow_symlinks=False), Path(entry.path)))
        total = size + sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda item: item[0].st_mtime_ns):
            if total <= self.limit:
                break
            if _evict(path):
                total -= status.st_size
        return total <= self.limit


def _evict(path: Path) -> bool:
    """Removes a file, unless a process is filling it. Returns whether the file is gone."""
    try:
        with _open(path, os.O_RDONLY) as stream:
            if path.suffix == _PARTIAL:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _open(path: Path, flags: int) -> BinaryIO:
    """Opens a file of the cache, but nothing that a link leads to: a link is removed.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is a folder, a pipe or a device.
    """
    while True:
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            break
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            path.unlink(missing_ok=True)
    stream = os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise InputError(f"{path} is no file; remove it from the cache")
    return stream


def _identify(stream: BinaryIO, sha256: str) -> tuple[str, int, int, int]:
    status = os.fstat(stream.fileno())
    return sha256, status.st_dev, status.st_ino, status.st_size


def _is_sound(stream: BinaryIO, sha256: str, size: int) -> bool:
    """Whether a copy has the content that its name promises. The content is read once in each process."""
    copy = _identify(stream, sha256)
    if copy not in _verified:
        if copy[-1] != size or sha256_of_stream(stream) != sha256:
            return False
        stream.seek(0)
        _verified.add(copy)
    return True


def _is_at(path: Path, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(stream.fileno()))
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
