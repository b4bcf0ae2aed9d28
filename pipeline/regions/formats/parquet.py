"""Regions in Parquet: the table that `pipeline.regions` writes, or any table with the same columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from parsers.command import InputError, pluralize
from pipeline.execution.parts import Reject
from pipeline.ids import read_id
from pipeline.regions.rows import RegionRows, distribution_info, make_row
from shards.regions.table import REGIONS_VERSION, RegionsInfo, RegionsRow, open_regions, read_rows
from shards.regions.tsv import parse_integer, read_floats
from shards.schema import Array
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file

NEEDED = ("image_id", "width", "height", "boxes", "features")
CHUNK = 16
"""Rows that are decoded at a time: so few that a damaged file cannot make much of a long value that it repeats."""
MAX_ROW = 1 << 25
"""The most bytes of a row. A hundred regions with classes need 2 MB; lists take ten times their bytes in Python."""


@dataclass(frozen=True)
class RowGroups:
    """A run of row groups of a file."""

    path: AnyPath
    groups: tuple[int, ...]
    first_row: int
    """the number of the first row in the file"""


class RegionsParquet:
    """Reads Parquet with the columns image_id, width, height, boxes, features and, perhaps, cls_prob.

    The matrices boxes [n, 4], features [n, d] and cls_prob [n, classes] are lists of lists, flat lists, or bytes of
    little-endian float32; features may be bytes of float16 or float64 where their number is given. A table that
    `pipeline.regions` wrote keeps its classes.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the sources; a folder stands for the ``.parquet`` files in it, sorted by name."""
        files: list[AnyPath] = []
        for source in sources:
            files.extend(sorted(source.glob("*.parquet"), key=str) if source.is_dir() else [source])
        return files

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            file = parquet_file(path)
            if _is_ours(file.schema_arrow):
                return RegionsInfo.from_file(path)
            missing = [name for name in NEEDED if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: has no columns {', '.join(missing)}; needed are {', '.join(NEEDED)}")
            for batch in file.iter_batches(CHUNK):
                for row in values_of_rows(batch):
                    try:
                        if isinstance(row, ValueError):
                            raise row
                        boxes = _matrix(row["boxes"], 4)
                        size = feature_size or _rows(row["features"], len(boxes)).shape[1]
                        columns = None if row.get("cls_prob") is None else _rows(row["cls_prob"], len(boxes)).shape[1]
                    except ValueError:
                        continue
                    return distribution_info(path, size, columns, class_names)
        raise InputError(f"{sources[0]}: no row with boxes and features that fit each other")

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[RowGroups]:
        """Yields runs of row groups that hold at least ``size`` rows."""
        for path in files:
            file = parquet_file(path)
            metadata = (open_regions(path) if _is_ours(file.schema_arrow) else file).metadata  # checks the columns
            groups: list[int] = []
            first = rows = 0
            for group in range(metadata.num_row_groups):
                groups.append(group)
                rows += metadata.row_group(group).num_rows
                if rows >= size or group == metadata.num_row_groups - 1:
                    yield RowGroups(path, tuple(groups), first)
                    groups, first, rows = [], first + rows, 0

    def read(self, partition: RowGroups, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        file = parquet_file(partition.path)
        ours = _is_ours(file.schema_arrow)
        number = partition.first_row
        for batch in file.iter_batches(CHUNK, row_groups=list(partition.groups)):
            table = pa.Table.from_batches([batch])
            for row in read_rows(table, info.feature_size) if ours else values_of_rows(batch):
                number += 1
                try:
                    if isinstance(row, RegionsRow):
                        row.regions.check(row.width, row.height)
                        yield row
                    elif isinstance(row, ValueError):
                        raise row
                    else:
                        yield _row(row, info)
                except ValueError as error:
                    yield Reject(str(partition.path), f"row {number}", str(error))


def _is_ours(schema: pa.Schema) -> bool:
    return (schema.metadata or {}).get(b"regions_version") == REGIONS_VERSION.encode()


def values_of_rows(batch: pa.RecordBatch) -> Iterator[dict[str, object] | ValueError]:
    """Yields the values of each row, or a ValueError that says why it cannot be read."""
    for number in range(len(batch)):
        row = batch.slice(number, 1)
        if row.nbytes > MAX_ROW:
            yield ValueError(f"a row of more than {MAX_ROW:,} bytes")
            continue
        try:
            yield row.to_pylist()[0]
        except UnicodeDecodeError:
            yield ValueError("invalid UTF-8")


def _row(row: dict[str, object], info: RegionsInfo) -> RegionsRow:
    missing = [name for name in NEEDED if row[name] is None]
    if missing:
        raise ValueError(f"no {', no '.join(missing)}")
    boxes = _matrix(row["boxes"], 4)
    features = _features(row["features"], len(boxes), info.feature_size)
    distribution = None if row.get("cls_prob") is None else _rows(row["cls_prob"], len(boxes))
    width, height = (parse_integer(row[name], name) for name in ("width", "height"))
    return make_row(read_id(row["image_id"]), width, height, boxes, features, distribution, info)


def _values(value: object) -> Array:
    if isinstance(value, bytes):
        if len(value) % 4:
            raise ValueError(f"{pluralize(len(value), 'byte')} are no whole number of float32 values")
        return np.frombuffer(value, "<f4")
    try:
        return np.array(value, np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError("a matrix is not numbers, or its rows differ in length") from None


def _features(value: object, n: int, size: int) -> Array:
    return read_floats(value, "features", n, size) if isinstance(value, bytes) else _rows(value, n)


def _matrix(value: object, columns: int) -> Array:
    values = _values(value)
    if len(values) % columns:
        raise ValueError(f"a matrix of {pluralize(len(values), 'value')} has no rows of {columns}")
    return values.reshape(-1, columns)


def _rows(value: object, n: int) -> Array:
    values = _values(value)
    if n < 1 or len(values) % n:
        raise ValueError(f"a matrix of {pluralize(len(values), 'value')} has not {pluralize(n, 'row')}")
    return values.reshape(n, -1)
