"""The folder that a stage of the pipeline writes: its parts are Parquet files whose metadata says what they hold.

``stage.json`` is written first and says what the stage was asked to do. ``report.json`` is written last and says what
came out, so a folder without it is unfinished.
"""

from __future__ import annotations

from parsers.command import InputError
from shards.storage.files import AnyPath, sha256_of
from shards.storage.parquet import parquet_file

STAGE, REPORT = "stage.json", "report.json"


def read_metadata(path: AnyPath, key: str, version: str) -> dict[str, str]:
    """The metadata of a part, which a stage wrote.

    Args:
        path: the part.
        key: the name of the version in the metadata, for example ``regions_version``.
        version: the version that this release reads.

    Raises:
        InputError: the file is no Parquet file, no stage wrote it, or it has another version.
    """
    raw = parquet_file(path).schema_arrow.metadata or {}
    metadata = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in raw.items()
        if not name.startswith(b"ARROW:")
    }
    if metadata.get(key) != version:
        raise InputError(f"{path}: {key} is {metadata.get(key)}, this release reads {version}; run its stage again")
    return metadata


def parts_of(folder: AnyPath) -> list[AnyPath]:
    """The parts of a finished stage, in order.

    Raises:
        InputError: the stage did not finish, or it left no parts.
    """
    if not (folder / REPORT).is_file():
        raise InputError(
            f"{folder}: has no {REPORT}, which a stage writes last; run the command that writes it (again)"
        )
    parts: list[AnyPath] = sorted(folder.glob("part-*.parquet"), key=str)
    if not parts:
        raise InputError(f"{folder}: holds no part-*.parquet; its stage had nothing to write")
    return parts


def hash_stage(folder: AnyPath) -> str:
    """The SHA-256 of ``stage.json``: folders that were made in the same way from the same files have the same one.

    Raises:
        InputError: the folder has no ``stage.json``.
    """
    return sha256_of(folder / STAGE)
