"""Keeps two runs out of one folder.

The process that writes a folder holds a lock (flock) on the file ``.lock`` in it. The system frees the lock when the
process ends, however it ends, so nothing has to be cleaned up after a kill.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parsers.command import InputError, say
from shards.storage.files import AnyPath

LOCK = ".lock"
_SHOWN = 200
"""At most this many bytes of what a lock says of its holder are shown."""


@contextmanager
def lock_folder(folder: AnyPath) -> Iterator[None]:
    """Locks a folder, which is made if it does not exist, and leaves no trace of the lock.

    Object stores and some network disks have no locks. There, a line says so and the run goes on.

    Raises:
        InputError: another run writes to the folder, or the folder cannot be written.
    """
    if not isinstance(folder, Path):
        say(f"{folder}: an object store cannot be locked; see that no other run writes there")
        yield
        return
    if folder.is_file():
        raise InputError(f"{folder} is a file; --out names a folder")
    made = not folder.exists()
    try:
        descriptor = _lock(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        if _is_at(folder / LOCK, descriptor):  # the folder may have been replaced meanwhile
            (folder / LOCK).unlink()
        os.close(descriptor)
        if made:
            with suppress(OSError):  # it holds something, or is gone
                folder.rmdir()


def _lock(folder: Path) -> int:
    """The descriptor of the lock, which holds as long as it is open."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except FileNotFoundError:  # the run that made the folder has just removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _SHOWN, 0).decode(errors="replace").strip() or "another run"
            os.close(descriptor)
            raise InputError(
                f"{folder}: {holder} writes to this folder; wait until it ends, or name another --out folder"
            ) from None
        except OSError as error:
            say(f"{folder}: this disk has no locks ({error.strerror}); see that no other run writes there")
            return descriptor
        if _is_at(folder / LOCK, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)  # the holder has just ended and removed the file


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
