"""Reads and writes the binary variables of Paddle Fluid 1.x with NumPy alone.

A record consists of a version, levels of detail (for ragged tensors; there are none here), the version of the tensor, a
small protobuf message (1: data type, 2: dimensions) and the raw little-endian data. In a folder each file holds one
record and has the name of the variable. A combined file holds the records of all variables in the order of their sorted
names, but not the names.

Files may come from strangers. So nothing is unpickled, and no more memory is allocated than the file is long.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from parsers.command import InputError
from shards.schema import Array

DTYPES = {
    0: np.dtype(np.bool_), 1: np.dtype("<i2"), 2: np.dtype("<i4"), 3: np.dtype("<i8"), 4: np.dtype("<f2"),
    5: np.dtype("<f4"), 6: np.dtype("<f8"), 20: np.dtype("u1"), 21: np.dtype("i1"),
}  # fmt: skip
MOST_LEVELS, MOST_DESCRIPTION, MOST_DIMENSIONS = 8, 256, 16
COMBINED = "__all__"


def read_variable(path: Path) -> Array:
    """Reads the only variable of a file.

    Raises:
        InputError: the file holds anything else. The message names the byte.
    """
    variables = read_combined(path)
    if len(variables) != 1:
        raise InputError(f"{path}: holds {len(variables)} variables, expected one; is it a combined file?")
    return variables[0]


def read_combined(path: Path) -> list[Array]:
    """Reads all variables of a combined file, in its order.

    Raises:
        InputError: the file is not a sequence of whole records. The message names the byte.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            variables = []
            while stream.tell() < size:
                variables.append(_read_record(_Source(stream, size, path)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not variables:
        raise InputError(f"{path}: is empty")
    return variables


def write_variable(stream: BinaryIO, array: Array) -> None:
    """Writes the record of one variable, without its name, at the stream's position.

    Args:
        stream: a binary file that is open for writing. Several records one after the other make a combined file.
        array: the values, of any shape. Their byte order and layout in memory do not matter.

    Raises:
        ValueError: the dtype is none of `DTYPES`, which Paddle Fluid can store.
    """
    code = next((code for code, dtype in DTYPES.items() if dtype == array.dtype.newbyteorder("<")), None)
    if code is None:
        raise ValueError(f"a Paddle variable cannot have the dtype {array.dtype}")
    description = b"\x08" + _varint(code) + b"".join(b"\x10" + _varint(size) for size in array.shape)
    stream.write(struct.pack("<IQI", 0, 0, 0) + struct.pack("<i", len(description)) + description)
    stream.write(np.ascontiguousarray(array, DTYPES[code]).tobytes())


class _Source:
    """A file that is never read beyond its end."""

    def __init__(self, stream: BinaryIO, size: int, path: Path) -> None:
        self._stream, self._size, self._path = stream, size, path

    def take(self, count: int, what: str) -> bytes:
        if count > self._size - self._stream.tell():
            raise self.error(f"{what} needs {count:,} bytes, {self._size - self._stream.tell():,} are left")
        return self._stream.read(count)

    def number(self, form: str, what: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form), what))[0]
        return value

    def error(self, message: str) -> InputError:
        return InputError(f"{self._path}: byte {self._stream.tell():,}: not a Paddle variable: {message}")


def _read_record(source: _Source) -> Array:
    if (version := source.number("<I", "the version")) != 0:
        raise source.error(f"version {version}, expected 0")
    if (levels := source.number("<Q", "the number of levels")) > MOST_LEVELS:
        raise source.error(f"{levels} levels of detail")
    for _ in range(levels):
        source.take(source.number("<Q", "a level"), "a level")
    if (version := source.number("<I", "the tensor's version")) != 0:
        raise source.error(f"tensor version {version}, expected 0")
    length = source.number("<i", "the description's length")
    if not 0 < length <= MOST_DESCRIPTION:
        raise source.error(f"a description of {length} bytes")
    dtype, shape = _parse_description(source.take(length, "the description"), source)
    data = source.take(math.prod(shape) * dtype.itemsize, f"a tensor of shape {shape}")
    if dtype == np.bool_ and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise source.error("a truth value is neither 0 nor 1")
    return np.frombuffer(data, dtype).reshape(shape)


def _parse_description(message: bytes, source: _Source) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    code, shape = None, []
    fields = iter(message)
    try:
        for key in fields:
            value = _parse_varint(fields)
            if key == 0x08:
                code = value
            elif key == 0x10:
                shape.append(value)
            else:
                raise source.error(f"field {key:#x} in the description")
    except StopIteration:
        raise source.error("the description is cut short") from None
    if code not in DTYPES:
        raise source.error(f"data type {code}")
    if len(shape) > MOST_DIMENSIONS or any(size >= 1 << 48 for size in shape):
        raise source.error(f"dimensions {shape[:MOST_DIMENSIONS]}")
    return DTYPES[code], tuple(shape)


def _parse_varint(message: Iterator[int]) -> int:
    value = shift = 0
    while True:
        byte = next(message)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*groups, value))
