"""Checksums of files, and ``checksums.json``: those of the files of a model, beside them.

Whoever writes a model calls `write_checksums`, and whoever reads one of its files calls `check_file` first. A folder
without ``checksums.json``, or a file that it does not list, is read as it is: earlier releases wrote none.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from parsers.command import InputError

if TYPE_CHECKING:
    from upath import UPath

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Writes the checksums of some files of a folder. Those of other files stay as they are."""
    path = folder / CHECKSUMS
    record = _read(path) | {name: sha256_of(folder / name) for name in names}
    temporary = folder / f".{CHECKSUMS}.{uuid.uuid4().hex}.tmp"
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def forget_checksums(folder: Path) -> None:
    """Removes the checksums of files that are about to be written again."""
    (folder / CHECKSUMS).unlink(missing_ok=True)


def list_checked(folder: Path) -> set[str]:
    """The files of a folder that have a checksum in it, by their path in the folder.

    Raises:
        InputError: ``checksums.json`` is damaged.
    """
    return set(_read(folder / CHECKSUMS))


def check_file(path: Path) -> None:
    """Compares a file with its checksum, if there is one beside it. A file that is missing is left to its reader.

    Raises:
        InputError: the file differs from its checksum, or ``checksums.json`` is damaged.
    """
    expected = _read(path.parent / CHECKSUMS).get(path.name)
    if expected is not None and path.is_file() and sha256_of(path) != expected:
        raise InputError(
            f"{path}: differs from its checksum in {CHECKSUMS}: it was damaged or changed; copy it again, or remove "
            f"{CHECKSUMS} if it was changed on purpose"
        )


def _read(path: Path) -> dict[str, object]:
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}; copy it again, or remove it") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds no JSON object; copy it again, or remove it")
    return record


def sha256_of(path: Path | UPath) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return sha256_of_stream(stream)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def sha256_of_stream(stream: BinaryIO) -> str:
    """The SHA-256 of the rest of an open file, in hexadecimal."""
    return hashlib.file_digest(cast(io.BufferedReader, stream), "sha256").hexdigest()
