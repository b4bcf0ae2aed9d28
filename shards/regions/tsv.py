"""Lines of tab-separated fields with regions: arrays are base64 of little-endian numbers."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import numpy as np

from shards.schema import Array

ORIGINAL = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
"""The columns of bottom-up-attention itself, which are also those of ERNIE-ViL's Flickr30k image files."""
VQA = ("question_id", "question", "labels", "scores", "img_w", "img_h", "num_boxes", "boxes", "features")
REFERENCE = ("expression", "img_w", "img_h", "num_boxes", "num_gold", "boxes", "features", "box", "label")
"""ERNIE-ViL's VQA and RefCOCO+ files; both have nine columns."""

Fields = dict[str, str]
_DTYPES = {"objects_id": np.dtype("<i8"), "attrs_id": np.dtype("<i8")}
_FLOAT = np.dtype("<f4")
_NO_FRACTION = re.compile(r"(?<=\d)\.0*$")


def split_line(line: bytes, columns: tuple[str, ...]) -> Fields:
    """The fields of a line by name.

    Raises:
        ValueError: there are more or fewer.
    """
    try:
        values = line.rstrip(b"\r\n").decode().split("\t")
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8") from None
    if len(values) != len(columns):
        raise ValueError(f"wrong number of columns: {len(values)}, expected {len(columns)}")
    return dict(zip(columns, values, strict=True))


def boxes_and_features(fields: Fields, n: int, size: int) -> tuple[Array, Array]:
    """float32 [n, 4] and [n, size].

    Raises:
        ValueError: they have other sizes.
    """
    if n < 0:
        raise ValueError("num_boxes is negative")
    return decode(fields, "boxes", 4 * n).reshape(n, 4), decode(fields, "features", size * n).reshape(n, size)


def decode(fields: Fields, name: str, count: int | None = None) -> Array:
    """The ``count`` numbers of a field, or all.

    Raises:
        ValueError: there are more or fewer.
    """
    try:
        data = base64.b64decode(fields[name], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not valid base64") from None
    dtype: np.dtype[Any] = _DTYPES.get(name, _FLOAT)
    if len(data) % dtype.itemsize:
        raise ValueError(f"{name} is not a whole number of {dtype.name} values")
    values = np.frombuffer(data, dtype)
    if count is not None and len(values) != count:
        raise ValueError(f"{name} has the wrong size: {len(values)} values, expected {count}")
    return values


def whole_number(value: Any, name: str) -> int:
    """An integer given as text, number or array of one.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, np.ndarray):
        if value.size != 1 or value.dtype.kind not in "iuf":
            raise ValueError(f"{name} is not a single number")
        value = value.item()
    if isinstance(value, str):
        value = _NO_FRACTION.sub("", value)
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a whole number") from None
    if isinstance(value, float) and number != value:
        raise ValueError(f"{name} is not a whole number")
    return number
