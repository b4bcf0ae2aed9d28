"""Reads NumPy's files without running the code in them, in a memory that is bounded beforehand."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from shards.schema import Array
from shards.storage import pickles

MAX_BYTES = 1 << 28
"""The most bytes that the arrays of an image may take: forty times as many as 100 regions with classes need."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. Python unfolds the others without a limit."""
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # an encrypted member, or (NotImplementedError) an unknown compression
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    TokenError,
    SyntaxError,
)
"""The errors that reading a damaged .npz file raises."""


def read_npy(data: bytes) -> object:
    """The array that ``np.save`` wrote, or the value that it pickled.

    Raises:
        ValueError: it is damaged, or its pickle holds more than plain values.
    """
    try:
        stream = io.BytesIO(data)
        shape, fortran, dtype = _HEADERS[npy.read_magic(stream)](stream)
    except (KeyError, *_UNREADABLE) as error:
        raise ValueError(f"not an .npy file ({type(error).__name__})") from None
    start = stream.tell()
    if dtype.hasobject:
        return pickles.unpickle(data[start:])
    # The header is not believed: memory is only what the bytes behind it take.
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"its header names an array {shape} of {dtype}, which the file does not hold")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


def read_npz(data: bytes, pickled: tuple[str, ...] = ()) -> dict[str, object]:
    """The arrays that ``np.savez`` wrote, by name.

    Args:
        data: the file.
        pickled: the names of arrays that may be pickles of plain values.

    Raises:
        ValueError: it is damaged, unfolds to more than `MAX_BYTES`, or another array is a pickle.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise _TooLargeError
            if any(member.compress_type not in _COMPRESSIONS for member in members):
                raise NotImplementedError
            values = {}
            for member in members:
                with archive.open(member) as stream:  # read without a number of bytes, it unfolds all that it holds
                    values[member.filename.removesuffix(".npy")] = read_npy(stream.read(member.file_size))
    except _TooLargeError:
        raise ValueError(f"an .npz file that unfolds to more than {MAX_BYTES:,} bytes") from None
    except _UNREADABLE as error:
        raise ValueError(f"not a readable .npz file without pickles ({type(error).__name__})") from None
    if any(not isinstance(value, np.ndarray) for name, value in values.items() if name not in pickled):
        raise ValueError("not a readable .npz file without pickles (an array of objects)")
    return values


class _TooLargeError(Exception):
    """An archive unfolds to too many bytes."""


def as_array(value: object, name: str) -> Array:
    """The value, which must be an array.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is no array")
    return value
