"""The Parquet tables between the stages: graphs and regions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import InputError
from shards.schema import Array, Classes, Regions

GRAPHS_VERSION = "1"
REGIONS_VERSION = "1"
ROW_GROUP = {"graphs": 4096, "regions": 64}
"""Rows a row group. Regions are large, and a row group is what a reader must hold at once."""

_node = [pa.field("lemma", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())]
_span = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
GRAPHS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("caption_id", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("objects", pa.list_(pa.struct(_node)), nullable=False),
        pa.field("attributes", pa.list_(pa.struct([pa.field("object", pa.int32()), *_node])), nullable=False),
        pa.field(
            "relations",
            pa.list_(
                pa.struct(
                    [
                        pa.field("subject", pa.int32()),
                        pa.field("object", pa.int32()),
                        pa.field("lemma", pa.string()),
                        pa.field("spans", pa.list_(_span)),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
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
    def from_file(cls, path: Path) -> RegionsInfo:
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

    def to_dict(self) -> dict[str, Any]:
        """As a row of `REGIONS`."""
        regions = self.regions
        return {
            "image_id": self.image_id,
            "width": self.width,
            "height": self.height,
            "boxes": regions.boxes.tolist(),
            "features": np.ascontiguousarray(regions.features, "<f2").tobytes(),
            "class_ids": None if regions.class_ids is None else regions.class_ids.tolist(),
            "class_probs": None if regions.class_probs is None else list(regions.class_probs),
            "attribute_ids": None if self.attribute_ids is None else self.attribute_ids.tolist(),
            "attribute_probs": None if self.attribute_probs is None else list(self.attribute_probs),
        }

    @classmethod
    def from_dict(cls, row: dict[str, Any], feature_size: int) -> RegionsRow:
        """The inverse of `to_dict`.

        Raises:
            ValueError: the features do not fit the boxes.
        """
        n = len(row["boxes"])
        features = np.frombuffer(row["features"], "<f2")
        if features.size != n * feature_size:
            raise ValueError(f"{features.size} feature values for {n} boxes of {feature_size}")

        def matrix(name: str, dtype: type) -> Array | None:
            return None if row[name] is None else np.array(row[name], dtype).reshape(n, -1)

        return cls(
            row["image_id"],
            row["width"],
            row["height"],
            Regions(
                np.array(row["boxes"], np.float32).reshape(n, 4),
                features.reshape(n, feature_size),
                matrix("class_ids", np.int16),
                matrix("class_probs", np.float16),
            ),
            matrix("attribute_ids", np.int16),
            matrix("attribute_probs", np.float16),
        )


def write_table(stream: BinaryIO, kind: str, table: pa.Table, metadata: dict[str, str]) -> None:
    """Writes a graphs or regions table with its metadata."""
    pq.write_table(
        table.replace_schema_metadata(metadata),
        stream,
        row_group_size=ROW_GROUP[kind],
        compression="zstd",
        compression_level=1,
    )


def read_metadata(path: Path, key: str, version: str) -> dict[str, str]:
    """The metadata of a Parquet file that one of our stages wrote.

    Raises:
        InputError: it is no such file, or of another version.
    """
    try:
        raw = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    metadata = {name.decode(): value.decode() for name, value in raw.items() if not name.startswith(b"ARROW:")}
    if metadata.get(key) != version:
        raise InputError(f"{path}: {key} is {metadata.get(key)}, this release reads {version}; run its stage again")
    return metadata


def parts_of(folder: Path) -> list[Path]:
    """The parts of a finished stage, in order.

    Raises:
        InputError: the folder holds none, or its stage did not finish.
    """
    if not (folder / "report.json").is_file():
        raise InputError(
            f"{folder}: has no report.json, which a stage writes last; run the command that writes it (again)"
        )
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{folder}: holds no part-*.parquet; its stage had nothing to write")
    return parts
