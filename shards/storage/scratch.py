"""Makes the folder in which a new folder is written until it is whole."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.storage.files import TEMPORARY


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Makes ``.NAME.*.tmp`` beside ``out``, with a name that nobody can guess, and removes it if it is left.

    What killed runs left beside ``out`` is removed first. Only the holder of the lock of ``out`` writes there, so
    nobody else's work is among it.

    Args:
        out: a folder whose lock this process holds.
    """
    out = out.absolute()
    leftover = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-z_]{{8}}{re.escape(TEMPORARY)}")
    for path in out.parent.iterdir():
        if leftover.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    folder = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
