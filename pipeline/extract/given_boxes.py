"""Boxes that are given instead of found: those of annotations, of a task's files, or of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import ijson
import numpy as np
import pyarrow as pa

from parsers.command import InputError
from pipeline.files import list_folder
from pipeline.ids import read_id
from pipeline.regions.formats.parquet import RegionsParquet, values_of_rows
from pipeline.text_files import open_json, read_items
from shards.schema import Array
from shards.storage.files import AnyPath
from shards.storage.parquet import parquet_file

GivenBoxes = dict[str, Array]
"""The boxes of each image id: float32 [n, 4], x1, y1, x2, y2 in pixels. If the source has no such matrix, n is 0."""
_COCO_KEYS = ("annotations", "categories", "images", "info", "licenses", "type")


def read_boxes(path: AnyPath) -> GivenBoxes:
    """Reads the boxes of a file or folder; docs/regions.md lists the formats.

    Raises:
        InputError: the path has none of these formats.
    """
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        boxes: GivenBoxes = {}
        for image_id, matrix in _from_parquet(path):
            if image_id in boxes:
                raise InputError(
                    f"{path}: two rows have the image id {image_id}; give each image one row with all boxes"
                )
            boxes[image_id] = matrix
        return boxes
    if path.is_dir():
        return dict(_from_vcr(path))
    if _first_key(path) in _COCO_KEYS:
        return _from_coco(path)
    return {image_id: _matrix(rows) for image_id, rows in _load(path).items()}


def _from_parquet(path: AnyPath) -> Iterator[tuple[str, Array]]:
    for file in RegionsParquet().files([path]):
        try:
            for batch in parquet_file(file).iter_batches(4096, columns=["image_id", "boxes"]):
                for row in values_of_rows(batch):
                    if isinstance(row, ValueError):
                        raise row
                    yield read_id(row["image_id"]), _matrix(row["boxes"])
        except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
            raise InputError(f"{file}: has no table with image_id and boxes: {error}") from error


def _from_vcr(folder: AnyPath) -> Iterator[tuple[str, Array]]:
    """Reads VCR's metadata: each image's file has ``boxes`` of [x1, y1, x2, y2, score]. The image id is ``img_fn``."""
    names = [file.name for file in list_folder(folder) if file.extension == ".json"]
    if not names:
        raise InputError(f"{folder}: holds neither a .parquet of regions nor .json of VCR's metadata")
    for name in names:
        boxes = _load(folder / name).get("boxes")
        yield f"{name.removesuffix('.json')}.jpg", _matrix(boxes, columns=5)[:, :4]


def _from_coco(path: AnyPath) -> GivenBoxes:
    """Reads ``annotations`` of {image_id, bbox: [x, y, width, height]}; crowds hold many objects and are skipped."""
    found: dict[str, list[object]] = {}
    for annotation in read_items(path, "annotations"):
        if not isinstance(annotation, dict) or not {"image_id", "bbox"} <= annotation.keys():
            raise InputError(f"{path}: an annotation has no image_id or no bbox; give the annotations of instances")
        if not annotation.get("iscrowd"):
            found.setdefault(_read_id(path, annotation["image_id"]), []).append(annotation["bbox"])
    boxes = {image_id: _matrix(rows) for image_id, rows in found.items()}
    return {image_id: np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]) for image_id, b in boxes.items()}


def _read_id(path: AnyPath, value: object) -> str:
    try:
        return read_id(value)
    except ValueError as error:
        raise InputError(f"{path}: an annotation: {error}") from error


def _first_key(path: AnyPath) -> str | None:
    with open_json(path) as stream:
        events = ijson.parse(stream, use_float=True)
        return next((value for _, event, value in events if event == "map_key"), None)


def _load(path: AnyPath) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: is no JSON object of image ids and their boxes")
    return value


def _matrix(value: object, columns: int = 4) -> Array:
    try:
        matrix = np.array(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0, np.float32)
    return matrix if matrix.ndim == 2 and matrix.shape[1] == columns else np.zeros((0, columns), np.float32)
