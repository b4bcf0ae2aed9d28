"""Encodes the members of a sample as bytes, and decodes them: JSON, ``.npy`` arrays and ``masks.npz``.

NumPy, zipfile and webdataset can read the bytes. This module does not use them, because what those libraries do for an
array takes several times as long as reading the array itself. Arrays are decoded as views, so nothing is copied.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from tokenize import TokenError

import numpy as np
import orjson

from parsers.graph import SceneGraph, Span
from shards.schema import (
    MASK_DTYPES,
    NEGATIVE_DTYPES,
    NEGATIVE_KINDS,
    Array,
    Caption,
    DType,
    Masks,
    Negative,
    NegativeMasks,
    Record,
    Sample,
)

ARRAY_DTYPES: dict[str, DType] = {
    "boxes.npy": np.dtype("<f4"),
    "features.npy": np.dtype("<f2"),
    "class_ids.npy": np.dtype("<i2"),
    "class_probs.npy": np.dtype("<f2"),
}
Chunks = list[bytes | memoryview]
"""Bytes in pieces. The data of an array is a view of the array, so features are not copied before they are written."""


def encode_sample(sample: Sample) -> list[tuple[str, Chunks]]:
    """The members of a sample in the order in which they are stored. Equal samples give equal bytes.

    Returns:
        For each member its name (`shards.schema.MEMBERS`) and its bytes.

    Raises:
        ValueError: a caption is not valid Unicode.
    """
    record = {
        "image_id": sample.image_id,
        "width": sample.width,
        "height": sample.height,
        "captions": [{"caption_id": c.caption_id, "text": c.text, "graph": c.graph.to_dict()} for c in sample.captions],
    }
    regions = sample.regions
    try:
        members: list[tuple[str, Chunks]] = [("json", [orjson.dumps(record)])]
    except TypeError as error:  # for example, because of a lone surrogate
        raise ValueError(f"its captions cannot be stored as JSON: {error}") from error
    for member, dtype in ARRAY_DTYPES.items():
        array: Array | None = getattr(regions, member.removesuffix(".npy"))
        if array is not None:
            members.append((member, _npy(array, dtype)))
    members.append(("masks.npz", [_encode_npz(_list_arrays(sample.masks, MASK_DTYPES))]))
    if sample.negative_masks is not None:
        negatives = sample.negative_masks
        arrays = _list_arrays(negatives.masks, MASK_DTYPES) | _list_arrays(negatives, NEGATIVE_DTYPES)
        members.append(("negatives.json", [orjson.dumps([_describe_negative(n) for n in sample.negatives])]))
        members.append(("negatives.npz", [_encode_npz(arrays)]))
    return members


def _describe_negative(negative: Negative) -> dict[str, object]:
    return {
        "negative_id": negative.negative_id,
        "caption": negative.caption,
        "text": negative.text,
        "kind": negative.kind,
        "spans": [{"start": span.start, "end": span.end} for span in negative.spans],
        "graph": negative.graph.to_dict(),
    }


def decode_negatives(data: bytes | memoryview) -> tuple[Negative, ...]:
    """The false captions in the bytes of ``KEY.negatives.json``.

    Raises:
        ValueError: the bytes are no such list.
    """
    try:
        found = tuple(
            Negative(
                n["negative_id"],
                n["caption"],
                n["text"],
                n["kind"],
                tuple(Span(span["start"], span["end"]) for span in n["spans"]),
                SceneGraph.from_dict(n["text"], n["graph"]),
            )
            for n in json.loads(bytes(data))
        )
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"not the false captions of a sample: {error!r}") from error
    if not all(
        type(n.caption) is int
        and isinstance(n.negative_id, str)
        and isinstance(n.text, str)
        and n.kind in NEGATIVE_KINDS
        for n in found
    ):
        raise ValueError("not the false captions of a sample: an id or text is no string, or a kind is unknown")
    return found


def decode_record(data: bytes | memoryview) -> Record:
    """The record in the bytes of ``KEY.json``.

    Raises:
        ValueError: the bytes are no such record.
    """
    try:
        record = json.loads(bytes(data))
        captions = tuple(
            Caption(c["caption_id"], c["text"], SceneGraph.from_dict(c["text"], c["graph"])) for c in record["captions"]
        )
        found = Record(record["image_id"], record["width"], record["height"], captions)
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"not the JSON record of a sample: {error!r}") from error
    texts = (found.image_id, *(caption.text for caption in captions))
    ids = (caption.caption_id for caption in captions)
    sizes = (found.width, found.height)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(one is None or isinstance(one, str) for one in ids)
        and all(type(size) is int and abs(size) < 1 << 31 for size in sizes)
    ):
        raise ValueError(
            "not the JSON record of a sample: an id or text is no string, or a size is no whole number of 32 bits"
        )
    return found


# ------------------------------------------------------------------------------------------------------------- .npy


def _npy(array: Array, dtype: DType) -> Chunks:
    """The header and the data of a ``.npy`` file of format 1.0."""
    data = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
    return [_npy_header(dtype.str, array.shape), data]


@lru_cache(maxsize=4096)
def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def decode_npy(data: memoryview) -> Array:
    """A read-only view of the array in the bytes of a ``.npy`` file.

    Raises:
        ValueError: the bytes are no ``.npy`` file of format 1.0 with plain numbers, or their length is not what the
            header says.
    """
    if len(data) < 10 or bytes(data[:8]) != b"\x93NUMPY\x01\x00":
        raise ValueError("not a .npy array of format 1.0")
    start = 10 + data[8] + 256 * data[9]
    shape, dtype, size = _read_npy_header(bytes(data[:start]))
    if len(data) != start + size:
        raise ValueError(f"a .npy array of shape {shape} and type {dtype} in {len(data)} bytes")
    return np.ndarray(shape, dtype, data, start)


@lru_cache(maxsize=4096)
def _read_npy_header(header: bytes) -> tuple[tuple[int, ...], DType, int]:
    """The shape, the type and the size in bytes of the array that follows a header."""
    stream = io.BytesIO(header)
    np.lib.format.read_magic(stream)
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, TokenError, SyntaxError, TypeError) as error:  # NumPy parses the header as Python
        raise ValueError("not the header of a .npy array") from error
    if fortran or dtype.hasobject:
        raise ValueError("a .npy array in Fortran order or of objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"a .npy array of shape {shape}")
    size = dtype.itemsize
    for length in shape:  # Python's integers cannot overflow, so a damaged shape never seems to have the right size
        size *= length
    return shape, dtype, size


# ------------------------------------------------------------------------------------------------------------- .npz

# A zip file has, for each member, a header and its data, and then a directory of all members (PKWARE's APPNOTE.TXT).
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _UNIX, _NEW_YEAR_1980 = 20, 3 << 8, 0x21
_OWNER_MAY_READ_AND_WRITE = 0o600 << 16
_FILES = {name: f"{name}.npy".encode() for name in (*MASK_DTYPES, *NEGATIVE_DTYPES)}


def _list_arrays(holder: Masks | NegativeMasks, dtypes: Mapping[str, DType]) -> dict[str, Array]:
    return {name: getattr(holder, name).astype(dtype, copy=False) for name, dtype in dtypes.items()}


def _encode_npz(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an uncompressed ``.npz`` file. Its dates are fixed, so equal arrays give equal bytes."""
    members: list[bytes] = []
    directory: list[bytes] = []
    position = 0
    for name, array in arrays.items():
        file = _FILES[name]
        npy = _npy_header(array.dtype.str, array.shape) + array.tobytes()
        crc, size = zlib.crc32(npy), len(npy)
        about = (0, 0, 0, _NEW_YEAR_1980, crc, size, size, len(file), 0)
        members += (_LOCAL.pack(b"PK\x03\x04", _VERSION, *about), file, npy)
        directory += (
            _CENTRAL.pack(
                b"PK\x01\x02", _UNIX | _VERSION, _VERSION, *about, 0, 0, 0, _OWNER_MAY_READ_AND_WRITE, position
            ),
            file,
        )
        position += _LOCAL.size + len(file) + size
    length = sum(map(len, directory))
    end = _END.pack(b"PK\x05\x06", 0, 0, len(arrays), len(arrays), length, position, 0)
    return b"".join((*members, *directory, end))


def decode_masks(data: memoryview) -> Masks:
    """The arrays of ``masks.npz`` as read-only views.

    Raises:
        ValueError: the bytes are no such file, or an array has another type than `shards.schema.MASK_DTYPES` says.
    """
    return Masks(*_decode_npz(data, "masks.npz", MASK_DTYPES))


def decode_negative_masks(data: memoryview) -> NegativeMasks:
    """The arrays of ``negatives.npz`` as read-only views.

    Raises:
        ValueError: the bytes are no such file, or an array has another type than `shards.schema.NEGATIVE_DTYPES` says.
    """
    arrays = _decode_npz(data, "negatives.npz", MASK_DTYPES | NEGATIVE_DTYPES)
    return NegativeMasks(Masks(*arrays[: len(MASK_DTYPES)]), *arrays[len(MASK_DTYPES) :])


def _decode_npz(data: memoryview, file: str, dtypes: Mapping[str, DType]) -> list[Array]:
    """The arrays of an ``.npz`` file that `_encode_npz` wrote, found by walking over the headers of its members."""
    arrays = []
    position = 0
    for name, dtype in dtypes.items():
        start = position + _LOCAL.size
        if len(data) < start:
            raise ValueError(f"{file} ends before {name}")
        magic, _, flags, method, _, _, _, stored, size, name_length, extra = _LOCAL.unpack_from(data, position)
        if magic != b"PK\x03\x04" or data[start : start + name_length] != _FILES[name]:
            raise ValueError(f"{file}: {name} is not where it belongs; a shard's arrays are in a fixed order")
        if flags or method or stored != size:
            raise ValueError(f"{file} is compressed or streamed; members must be stored")
        start += name_length + extra
        position = start + size
        array = decode_npy(data[start:position])
        if array.dtype != dtype:
            raise ValueError(f"{file}: {name} is {array.dtype}, expected {dtype}")
        arrays.append(array)
    if bytes(data[position : position + 4]) != b"PK\x01\x02":
        raise ValueError(f"{file} holds more than it should, or has no directory")
    return arrays
