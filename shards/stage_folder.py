"""The folder that a stage of the pipeline writes: its parts are Parquet files whose metadata says what they hold.

``stage.json`` is written first and says what the stage was asked to do. ``report.json`` is written last and says what
came out, so a folder without it is unfinished.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from parsers.checksums import sha256_of
from parsers.command import InputError
from shards.storage.files import AnyPath, read_record
from shards.storage.parquet import ParquetFile, parquet_file

STAGE, REPORT = "stage.json", "report.json"


def read_part_metadata(path: AnyPath, key: str, versions: Collection[str]) -> dict[str, str]:
    """The metadata of a part, which a stage wrote.

    Args:
        path: the part.
        key: the name of the version in the metadata, for example ``regions_version``.
        versions: the versions that this release reads.

    Raises:
        InputError: the file is no Parquet file, no stage wrote it, or it has another version.
    """
    raw = parquet_file(path).schema_arrow.metadata or {}
    metadata = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in raw.items()
        if not name.startswith(b"ARROW:")
    }
    if key not in metadata:
        holds = "graphs" if "graphs_version" in metadata else "regions" if "regions_version" in metadata else None
        wanted = key.removesuffix("_version")
        why = f"but {holds}; are two folders swapped?" if holds else "of a stage; name the folder that the stage wrote"
        raise InputError(f"{path}: holds no {wanted} {why}")
    if metadata[key] not in versions:
        known = " and ".join(versions)
        raise InputError(f"{path}: {key} is {metadata[key]}, this release reads {known}; run its stage again")
    return metadata


def read_statistics(folder: AnyPath) -> dict[str, int]:
    """The counts that a stage reported, by what was counted.

    Raises:
        InputError: the stage did not finish, or its report is damaged.
    """
    statistics = read_record(folder / REPORT).get("statistics", {})
    if not isinstance(statistics, dict) or not all(isinstance(count, int) for count in statistics.values()):
        raise InputError(f"{folder / REPORT}: has no counts under `statistics`; run the stage again")
    return statistics


def open_part(path: AnyPath, key: str, schemas: Mapping[str, pa.Schema]) -> ParquetFile:
    """Opens a part, which a stage wrote, and checks that it holds what the stage writes.

    Args:
        path: the part.
        key: see `read_part_metadata`.
        schemas: the columns and their types, by version. Columns that may be null may be missing.

    Raises:
        InputError: see `read_part_metadata`; or a column is missing or has another type.
    """
    metadata = read_part_metadata(path, key, schemas)
    file = parquet_file(path)
    found = file.schema_arrow
    for field in schemas[metadata[key]]:
        places = found.get_all_field_indices(field.name)
        if len(places) != 1 and (places or not field.nullable):
            raise InputError(f"{path}: has {len(places)} columns {field.name}, expected one; run its stage again")
        if places and found.field(places[0]).type != field.type:
            raise InputError(
                f"{path}: the column {field.name} is {found.field(places[0]).type}, expected {field.type}; "
                "run its stage again"
            )
    return file


def find_null(rows: pa.Table | pa.RecordBatch, schema: pa.Schema) -> str | None:
    """Returns the name of a column with a null where its stage writes none, or None if all is well."""
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        place = schema.get_field_index(name)
        if place >= 0 and any(_has_null(chunk, may_be_null=schema.field(place).nullable) for chunk in chunks):
            return str(name)
    return None


def _has_null(array: pa.Array, *, may_be_null: bool = False) -> bool:
    """Returns whether an array or an array in it has a null; ``may_be_null`` excuses those of the outermost."""
    if array.null_count and not may_be_null:
        return True
    if pa.types.is_struct(array.type):
        return any(map(_has_null, array.flatten()))
    is_list = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    return is_list and _has_null(array.flatten())


def parts_of(folder: AnyPath) -> list[AnyPath]:
    """The parts of a finished stage, in order.

    Raises:
        InputError: the stage did not finish, or it left no parts.
    """
    if not (folder / REPORT).is_file():
        if (folder / STAGE).is_file() or any(folder.glob("part-*.parquet")):
            raise InputError(f"{folder}: has no {REPORT}, which a stage writes last; run its command again")
        raise InputError(
            f"{folder}: no stage wrote it; `ernie-vil parse` makes such a folder of captions, `ernie-vil regions` of "
            "features, and `ernie-vil extract` of pictures"
        )
    parts: list[AnyPath] = sorted(folder.glob("part-*.parquet"), key=str)
    if not parts:
        raise InputError(f"{folder}: holds no part-*.parquet; its stage had nothing to write")
    return parts


def hash_stage(folder: AnyPath) -> str:
    """The SHA-256 of ``stage.json``: folders that were made in the same way from the same files have the same one.

    Raises:
        InputError: the folder has no ``stage.json``, or it is damaged.
    """
    read_record(folder / STAGE)
    return sha256_of(folder / STAGE)
