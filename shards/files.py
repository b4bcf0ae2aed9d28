"""Files that are there whole or not at all, and room for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shards.errors import InputError

TEMPORARY = ".tmp"


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_bytes(data)
    flush(temporary)
    temporary.replace(path)


def flush(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_free_disk(folder: Path, needed: int, what: str) -> None:
    """Refuses to start what would fill the disk. ``folder`` need not exist yet.

    Raises:
        InputError: the disk has less than ``needed`` bytes free.
    """
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{what} needs {needed:,} bytes, but the disk of {folder} has {free:,} free; "
            "make room or name a folder on another disk"
        )
