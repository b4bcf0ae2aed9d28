"""JSON files of the tasks, and checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from shards.errors import InputError
from shards.files import write_atomic


def read_json(path: Path) -> Any:
    """Raises InputError if the file is missing or no JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """One value a line. Raises InputError if the file is missing, or a line no JSON."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: is no JSON: {error}") from error
    return values


def write_json(value: Any, path: Path) -> None:
    """Whole or not at all."""
    write_atomic(path, orjson.dumps(value) + b"\n")


def sha256_of(path: Path) -> str:
    """The checksum of a file. Raises InputError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
