"""A record of an image: a dict with the names that ViLBERT's extractor and its converters use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parsers.command import pluralize
from pipeline.ids import read_id
from pipeline.regions.rows import ArgMax, argmax_info, distribution_info, make_argmax_row, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.regions.tsv import decode_base64, parse_integer, read_floats
from shards.schema import Array
from shards.storage.files import AnyPath

Record = Mapping[str, object]
NAMES = {
    "image_id": ("image_id",),
    "width": ("image_width", "image_w"),
    "height": ("image_height", "image_h"),
    "num_boxes": ("num_boxes",),
    "boxes": ("bbox", "boxes"),
    "features": ("features",),
}
"""The names that the extractor and the converters have for the same value."""
NEEDED = ", ".join(names[0] for names in NAMES.values())


def record_info(path: AnyPath, record: Record, class_names: list[str] | None, feature_size: int | None) -> RegionsInfo:
    """Returns what holds for all records, as a good one says.

    Raises:
        ValueError: the record is not good.
        InputError: the class names do not fit it.
    """
    values = _named(record)
    n = parse_integer(values["num_boxes"], "num_boxes")
    size = feature_size or _matrix(values, "features", n).shape[1]
    if "objects_conf" in record:
        return argmax_info(size, class_names)
    columns = _matrix(record, "cls_prob", n).shape[1] if "cls_prob" in record else None
    return distribution_info(path, size, columns, class_names)


def record_row(record: Record, info: RegionsInfo) -> RegionsRow:
    """Returns a record as a row of the table.

    Classes are ``cls_prob``, or else ``objects_id`` and ``objects_conf``, with ``attrs_id`` and ``attrs_conf``.

    Raises:
        ValueError: the record is not good.
    """
    values = _named(record)
    n, width, height = (parse_integer(values[name], name) for name in ("num_boxes", "width", "height"))
    boxes, features = _matrix(values, "boxes", n, 4), _matrix(values, "features", n, info.feature_size)
    image_id = read_id(values["image_id"])
    if info.classes.kind == "argmax":
        found = ArgMax(*(_vector(record, name, n) for name in ("objects_id", "objects_conf", "attrs_id", "attrs_conf")))
        return make_argmax_row(image_id, width, height, boxes, features, found, info)
    distribution = _matrix(record, "cls_prob", n) if "cls_prob" in record else None
    return make_row(image_id, width, height, boxes, features, distribution, info)


def _named(record: Record) -> dict[str, object]:
    found = {name: next((record[key] for key in keys if key in record), None) for name, keys in NAMES.items()}
    missing = [NAMES[name][0] for name, value in found.items() if value is None]
    if missing:
        raise ValueError(f"lacks the arrays {', '.join(missing)}")
    return found


def _vector(record: Record, name: str, n: int) -> Array | None:
    value = record.get(name)
    if value is None and name.startswith("attrs"):
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.size != n:
        raise ValueError(f"{name} is not {pluralize(n, 'number')}")
    return value.reshape(n)


def _matrix(record: Record, name: str, n: int, columns: int | None = None) -> Array:
    """Returns a matrix [n, columns] of a record, which is an array, or base64 of float32.

    If the columns are known, base64 may also be of float16 or float64.

    Raises:
        ValueError: it is no such matrix.
    """
    value = record[name]
    if isinstance(value, str | bytes):
        data = decode_base64(value, name)
        if columns is not None and n > 0:
            return read_floats(data, name, n, columns)
        if n < 1 or len(data) % (4 * n):
            raise ValueError(
                f"wrong sizes: {name} of {pluralize(len(data), 'byte')} has not {pluralize(n, 'row')} of float32"
            )
        return np.frombuffer(data, "<f4").reshape(n, -1)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufb":
        raise ValueError(f"{name} is not numbers")
    if value.ndim != 2 or len(value) != n:
        raise ValueError(f"wrong sizes: {name} is {value.shape}, expected {pluralize(n, 'row')}")
    return value
