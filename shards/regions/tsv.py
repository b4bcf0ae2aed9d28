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
_HALF: DType = np.dtype("<f2")
_FLOATS: tuple[DType, ...] = (_FLOAT, _HALF, np.dtype("<f8"))
"""The types that matrices are written in."""
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
    boxes, features = (
        read_floats(decode_base64(fields[name], name), name, n, columns)
        for name, columns in (("boxes", 4), ("features", size))
    )
    return boxes, features


def read_floats(data: bytes, name: str, n: int, columns: int) -> Array:
    """The float32 [n, columns] in some bytes of little-endian float32, or of float16 or float64 where these fit.

    Raises:
        ValueError: the bytes fit none of these, or they are no float32 numbers though they would fit.
    """
    count = n * columns
    dtype = next((dtype for dtype in _FLOATS if count and len(data) == count * dtype.itemsize), _FLOAT)
    if len(data) % dtype.itemsize:
        raise ValueError(f"{name} is not a whole number of {dtype.name} values")
    values = np.frombuffer(data, dtype)
    if len(values) != count:
        raise ValueError(f"{name} has the wrong size: {len(values)} values, expected {count}")
    if dtype == _FLOAT:
        check_spread(values, name)
    elif dtype == _HALF:
        _check_half(values, name)
    with np.errstate(over="ignore"):  # infinity is found with the other checks of regions
        return values.reshape(n, columns).astype(np.float32, copy=False)


def check_spread(values: Array, name: str) -> None:
    """Checks that float32 numbers are not float16 or bfloat16 whose bytes were read as float32.

    The middle half of a detector's numbers lies within a factor of 64. Two float16 that are read as one float32 lie
    much farther apart, because the exponent that they give rises eight times as fast. Of two bfloat16 the second gives
    the exponent, but the first is then the lower half of the digits, which are not digits that any number could have.
    A thousand numbers show it.

    Raises:
        ValueError: the middle half of the numbers spans more than a factor of 1,024, or that of the lower halves, taken
            as bfloat16, does not.
    """
    bits = values.reshape(-1)[:1024].view(np.uint32)
    middle = _middle_half(bits >> 23)
    if middle is not None and middle[1] - middle[0] > _WIDE:
        raise ValueError(f"{name} are no float32 numbers, but perhaps float16 ones")
    middle = _middle_half(bits >> 7)
    if middle is not None and middle[1] - middle[0] <= _WIDE and len(np.unique(bits & 0xFFFF)) > _DISTINCT:
        raise ValueError(_BFLOAT.format(name, "float32"))


def _check_half(values: Array, name: str) -> None:
    """Checks that float16 numbers are not bfloat16 whose bytes were read as float16.

    Taken as bfloat16, the middle half of float16 numbers spans eight times as many exponents as it has. Only boxes of
    nearly one size may span few, but these are not below 8 pixels, as those that are made of bfloat16 are.

    Raises:
        ValueError: the middle half of the numbers, taken as bfloat16, spans less than a factor of 1,024.
    """
    middle = _middle_half(values.reshape(-1)[:1024].view(np.uint16) >> 7)
    if middle is not None and middle[1] - middle[0] <= _WIDE and middle[1] < _EIGHT:
        raise ValueError(_BFLOAT.format(name, "float16"))


def _middle_half(exponents: Array) -> tuple[int, int] | None:
    """Returns where the middle half of some exponents begins and ends; None if there are too few.

    Args:
        exponents: integers whose last eight bits are the exponents; 0 is that of the number 0, which does not count.
    """
    found = exponents.astype(np.uint8)
    found = np.sort(found[found > 0])
    quarter = len(found) // 4
    return (int(found[quarter]), int(found[-quarter])) if quarter >= 8 else None


_WIDE = 10
"""the span of exponents that no detector's numbers reach in their middle half"""
_DISTINCT = 32
"""Numbers that take fewer values than this, as those of a test do, say nothing about their digits."""
_EIGHT = 144
"""the first bits of the float16 number 8, where a bfloat16 has its exponent"""
_BFLOAT = "{} are no {} numbers, but perhaps bfloat16 ones; convert them to float32"


def decode_base64(text: str | bytes, name: str) -> bytes:
    """The bytes in a field.

    Raises:
        ValueError: the field is damaged.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not valid base64") from None


def decode_numbers(fields: Fields, name: str, count: int | None = None) -> Array:
    """The numbers in a field: int64 for ids, float32 for all others.

    Raises:
        ValueError: the field is damaged, or it holds more or fewer than ``count`` numbers where that is given.
    """
    data = decode_base64(fields[name], name)
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
