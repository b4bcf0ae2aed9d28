"""Unfinished files and folders: the folder in which a new one is written, and what killed runs have left."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.storage.files import TEMPORARY, AnyPath, flush
from shards.storage.lock import LOCK

_UNFINISHED = re.compile(rf"\.(.+)\.[0-9a-z_]{{8,32}}{re.escape(TEMPORARY)}", re.DOTALL)
"""``.NAME.*.tmp``, as `shards.storage.files`, `parsers.checksums` and `scratch_folder` call what is not finished"""


def remove_leftovers(folder: AnyPath, *, below: bool = False) -> None:
    """Removes the unfinished files of killed runs. Object stores have none.

    Only the holder of a lock writes there, so nobody else's work is among it.

    Args:
        folder: a folder whose lock this process holds, or one in such a folder. It need not exist.
        below: look into the folders in it as well.
    """
    if isinstance(folder, Path) and folder.is_dir():
        for path in folder.rglob(".*") if below else list(folder.iterdir()):
            if _UNFINISHED.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Makes ``.NAME.*.tmp`` beside ``out``, with a name that nobody can guess, and removes it if it is left.

    What killed runs left beside ``out`` is removed first. Only the holder of the lock of ``out`` writes there, so
    nobody else's work is among it.

    Args:
        out: a folder whose lock this process holds.
    """
    out = out.absolute()
    for path in out.parent.iterdir():
        found = _UNFINISHED.fullmatch(path.name)
        if found is not None and found[1] == out.name:
            shutil.rmtree(path, ignore_errors=True)
    folder = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Makes a scratch folder, which becomes ``out`` when the context is left without an error.

    Args:
        out: a folder whose lock this process holds, and which holds nothing else.

    Raises:
        OSError: ``out`` holds something by then, or the disk cannot be written.
    """
    out = out.absolute()
    mode = out.stat().st_mode
    with scratch_folder(out) as folder:
        yield folder
        folder.chmod(mode)
        (out / LOCK).unlink(missing_ok=True)  # only an empty folder can be replaced
        folder.replace(out)
        flush(out.parent)
