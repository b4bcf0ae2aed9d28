"""What is left in the folder of a stage: parts (Parquet) with the stage's metadata."""

from __future__ import annotations

import pyarrow as pa

from parsers.command import InputError
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file


def read_metadata(path: AnyPath, key: str, version: str) -> dict[str, str]:
    """The metadata of a Parquet file that one of our stages wrote.

    Raises:
        InputError: it is no such file, or of another version.
    """
    try:
        raw = parquet_file(path).schema_arrow.metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    metadata = {name.decode(): value.decode() for name, value in raw.items() if not name.startswith(b"ARROW:")}
    if metadata.get(key) != version:
        raise InputError(f"{path}: {key} is {metadata.get(key)}, this release reads {version}; run its stage again")
    return metadata


def parts_of(folder: AnyPath) -> list[AnyPath]:
    """The parts of a finished stage, in order.

    Raises:
        InputError: the folder holds none, or its stage did not finish.
    """
    if not (folder / "report.json").is_file():
        raise InputError(
            f"{folder}: has no report.json, which a stage writes last; run the command that writes it (again)"
        )
    parts: list[AnyPath] = sorted(folder.glob("part-*.parquet"), key=str)
    if not parts:
        raise InputError(f"{folder}: holds no part-*.parquet; its stage had nothing to write")
    return parts
