"""The table of detector regions: a row an image, in the parts (Parquet) that `pipeline.regions` writes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.errors import InputError
from shards.files import AnyPath, parquet_file
from shards.schema import Array, Classes, Regions

REGIONS_VERSION = "1"
REGIONS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("features", pa.binary(), nullable=False),
        pa.field("class_ids", pa.list_(pa.list_(pa.int16()))),
        pa.field("class_probs", pa.list_(pa.list_(pa.float16()))),
        pa.field("attribute_ids", pa.list_(pa.list_(pa.int16()))),
        pa.field("attribute_probs", pa.list_(pa.list_(pa.float16()))),
    ]
)


@dataclass(frozen=True)
class RegionsInfo:
    """What holds for all rows of a regions folder."""

    feature_size: int
    classes: Classes
    attribute_names: tuple[str, ...] | None

    def to_metadata(self) -> dict[str, str]:
        """As Parquet file metadata."""
        return {
            "regions_version": REGIONS_VERSION,
            "feature_size": str(self.feature_size),
            "classes": self.classes.model_dump_json(),
            "attribute_names": json.dumps(self.attribute_names),
        }

    @classmethod
    def from_file(cls, path: AnyPath) -> RegionsInfo:
        """Reads it from a part of a regions folder."""
        metadata = read_metadata(path, "regions_version", REGIONS_VERSION)
        names = json.loads(metadata["attribute_names"])
        return cls(
            int(metadata["feature_size"]),
            Classes.model_validate_json(metadata["classes"]),
            None if names is None else tuple(names),
        )


@dataclass(frozen=True)
class RegionsRow:
    """The regions of an image as a row of the table."""

    image_id: str
    width: int
    height: int
    regions: Regions
    attribute_ids: Array | None = None
    """int16 [n, k]"""
    attribute_probs: Array | None = None
    """float16 [n, k]"""


def label_regions(
    regions: Regions,
    classes: Classes,
    attribute_ids: Array | None = None,
    attribute_names: Sequence[str] | None = None,
) -> list[tuple[str, float]]:
    """For each box its likeliest class that is not the background, after its likeliest attribute ("red cube"), and the
    probability of the class; nothing where there are no classes.

    Args:
        regions: with ``class_ids`` and ``class_probs``.
        classes: what those numbers mean.
        attribute_ids: int16 [n, k], the likeliest first.
        attribute_names: what these mean.
    """
    ids, probabilities = regions.class_ids, regions.class_probs
    if ids is None or probabilities is None or not ids.size:
        return []
    best = np.where(ids == classes.background, -1, probabilities.astype(np.float32)).argmax(axis=1)[:, None]
    names = classes.names or []
    numbers, shares = (np.take_along_axis(a, best, 1)[:, 0].tolist() for a in (ids, probabilities))
    labels = [names[i] if i < len(names) else str(i) for i in numbers]
    if attribute_ids is not None and attribute_names is not None:
        labels = [f"{attribute_names[a]} {name}" for a, name in zip(attribute_ids[:, 0], labels, strict=True)]
    return list(zip(labels, shares, strict=True))


def read_rows(table: pa.Table, feature_size: int) -> Iterator[RegionsRow | ValueError]:
    """The rows of a table of `REGIONS`, their arrays views of it; an error where features and boxes do not fit.

    Columns of classes and attributes that were not read are taken as absent.
    """
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    boxes = columns["boxes"]
    corners = boxes.values.flatten().to_numpy().reshape(-1, 4)
    starts = boxes.offsets.to_numpy()
    matrices = [_Matrices(columns[name]) if name in columns else None for name in REGIONS.names[5:]]
    sizes = zip(*(columns[name].to_pylist() for name in ("image_id", "width", "height")), strict=True)
    for i, (image_id, width, height) in enumerate(sizes):
        features = np.frombuffer(columns["features"][i].as_buffer(), "<f2")
        n = int(starts[i + 1] - starts[i])
        try:
            if features.size != n * feature_size:
                raise ValueError(f"{features.size} feature values for {n} boxes of {feature_size}")
            ids, probabilities, attributes, attribute_probabilities = (None if m is None else m[i] for m in matrices)
        except ValueError as error:
            yield error
            continue
        regions = Regions(corners[starts[i] : starts[i + 1]], features.reshape(n, feature_size), ids, probabilities)
        yield RegionsRow(image_id, width, height, regions, attributes, attribute_probabilities)


class _Matrices:
    """The matrices of a list<list<number>> column, as views of it."""

    def __init__(self, column: pa.ListArray) -> None:
        self._values, self._inner = column.values.values.to_numpy(), column.values.offsets.to_numpy()
        self._outer, self._present = column.offsets.to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)

    def __getitem__(self, i: int) -> Array | None:
        if not self._present[i]:
            return None
        ends = self._inner[self._outer[i] : self._outer[i + 1] + 1]
        widths = np.diff(ends)
        if len(widths) and (widths != widths[0]).any():
            raise ValueError("the rows of a matrix differ in length")
        matrix: Array = self._values[ends[0] : ends[-1]].reshape(len(widths), widths[0] if len(widths) else 0)
        return matrix


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


class RegionStore:
    """The regions of all images of some folders, by image id.

    Only ids are held in memory, and the row groups that were read last; a read decodes one row group.
    """

    def __init__(self, folders: Sequence[Path], *, attributes: bool = False, cache_bytes: int = 1 << 28) -> None:
        """Reads the ids.

        Args:
            folders: what runs of `pipeline.regions` or `pipeline.extract` wrote.
            attributes: read these too.
            cache_bytes: of decoded row groups to keep, in each process.

        Raises:
            InputError: a folder is no finished run; two hold the same image, or features of unequal size.
        """
        self.feature_size = 0
        self._columns = [*REGIONS.names[:5], *(["attribute_ids", "attribute_probs"] if attributes else [])]
        self._paths: list[AnyPath] = []
        self._rows: dict[str, int] = {}
        self._groups: list[tuple[int, int]] = []
        starts = [0]
        for folder in folders:
            for path in parts_of(folder):
                size = RegionsInfo.from_file(path).feature_size
                if self.feature_size not in (0, size):
                    raise InputError(
                        f"{path}: has features of size {size}, the regions before it {self.feature_size}; "
                        "take regions of one detector"
                    )
                self.feature_size = size
                file = parquet_file(path)
                for row, image_id in enumerate(file.read(["image_id"])["image_id"].to_pylist(), starts[-1]):
                    if image_id in self._rows:
                        raise InputError(f"{path}: image {image_id!r} has regions twice; give one of the folders")
                    self._rows[image_id] = row
                for group in range(file.num_row_groups):
                    self._groups.append((len(self._paths), group))
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
                self._paths.append(path)
        self._starts = np.array(starts)
        self._cache: OrderedDict[int, list[RegionsRow | ValueError]] = OrderedDict()
        self._cached, self._cache_bytes = 0, cache_bytes

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def __getitem__(self, image_id: str) -> RegionsRow:
        """The regions of an image, without classes.

        Raises:
            KeyError: there are none.
            InputError: its row is damaged.
        """
        number = self._rows[image_id]
        group = int(np.searchsorted(self._starts, number, "right")) - 1
        row = self._read(group)[number - int(self._starts[group])]
        if isinstance(row, ValueError):
            raise InputError(f"{self._paths[self._groups[group][0]]}: image {image_id!r}: {row}")
        return row

    def _read(self, group: int) -> list[RegionsRow | ValueError]:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        part, number = self._groups[group]
        try:
            table = parquet_file(self._paths[part]).read_row_group(number, self._columns, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{self._paths[part]}: cannot be read: {error}; write it again") from error
        rows = list(read_rows(table, self.feature_size))
        self._cache[group] = rows
        self._cached += _bytes_of(rows)
        while self._cached > self._cache_bytes and len(self._cache) > 1:
            self._cached -= _bytes_of(self._cache.popitem(last=False)[1])
        return rows


def _bytes_of(rows: list[RegionsRow | ValueError]) -> int:
    return sum(row.regions.features.nbytes for row in rows if isinstance(row, RegionsRow))
