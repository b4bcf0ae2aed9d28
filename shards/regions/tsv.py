"""Reads lines of the TSV files in which others publish regions.

A line holds tab-separated fields. An array is the base64 of little-endian numbers.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import SupportsInt

import numpy as np

from shards.schema import Array, DType

BOTTOM_UP_ATTENTION = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
"""The columns of bottom-up-attention's files, which ERNIE-ViL's image files of Flickr30k have, too."""
VQA = ("question_id", "question", "labels", "scores", "img_w", "img_h", "num_boxes", "boxes", "features")
REFERENCE = ("expression", "img_w", "img_h", "num_boxes", "num_gold", "boxes", "features", "box", "label")
"""The columns of ERNIE-ViL's VQA files and of its RefCOCO+ files. Both have nine."""

Fields = dict[str, str]
_DTYPES: dict[str, DType] = {"objects_id": np.dtype("<i8"), "attrs_id": np.dtype("<i8")}
_FLOAT: DType = np.dtype("<f4")
_NO_FRACTION = re.compile(r"(?<=\d)\.0*$")


def split_line(line: bytes, columns: tuple[str, ...]) -> Fields:
    """The fields of a line by the names of its columns.

    Raises:
        ValueError: the line has more or fewer fields than columns, or it is no UTF-8.
    """
    try:
        values = line.rstrip(b"\r\n").decode().split("\t")
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8") from None
    if len(values) != len(columns):
        raise ValueError(f"wrong number of columns: {len(values)}, expected {len(columns)}")
    return dict(zip(columns, values, strict=True))


def decode_regions(fields: Fields, n: int, size: int) -> tuple[Array, Array]:
    """The boxes, float32 [n, 4], and the features, float32 [n, size], of a line.

    Raises:
        ValueError: the fields hold more or fewer numbers, or are damaged.
    """
    if n < 0:
        raise ValueError("num_boxes is negative")
    return decode(fields, "boxes", 4 * n).reshape(n, 4), decode(fields, "features", size * n).reshape(n, size)


def decode(fields: Fields, name: str, count: int | None = None) -> Array:
    """The numbers in a field: int64 for ids, float32 for all others.

    Raises:
        ValueError: the field is damaged, or it holds more or fewer than ``count`` numbers where that is given.
    """
    try:
        data = base64.b64decode(fields[name], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not valid base64") from None
    dtype = _DTYPES.get(name, _FLOAT)
    if len(data) % dtype.itemsize:
        raise ValueError(f"{name} is not a whole number of {dtype.name} values")
    values = np.frombuffer(data, dtype)
    if count is not None and len(values) != count:
        raise ValueError(f"{name} has the wrong size: {len(values)} values, expected {count}")
    return values


def parse_integer(value: object, name: str) -> int:
    """The integer in a text ("12" or "12.0"), in a number, or in an array of one number.

    Raises:
        ValueError: there is none; the message calls the value ``name``.
    """
    if isinstance(value, np.ndarray):
        if value.size != 1 or value.dtype.kind not in "iuf":
            raise ValueError(f"{name} is not a single number")
        value = value.item()
    if isinstance(value, str):
        value = _NO_FRACTION.sub("", value)
    try:
        if not isinstance(value, str | bytes | SupportsInt):
            raise TypeError
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a whole number") from None
    if isinstance(value, float) and number != value:
        raise ValueError(f"{name} is not a whole number")
    return number
