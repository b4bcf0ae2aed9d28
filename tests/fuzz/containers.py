"""Damage inside of files that hold others, and to what they say of them."""

import io
import json
import pickle
import random as random_module
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.storage import pickles

Damage = Callable[[str, bytes, Random], bytes]
NAMES = ("../x", "/x", "", ".", "a/../b", "x" * 300, "é", "a\nb", "\udcff", ".json", "a.b.c.json", "a/")
SHAPES = (
    "(-1,)",
    "(99999999999,)",
    "(4294967296, 4294967296)",
    "()",
    "(0,)",
    "(1, 1, 1, 1, 1)",
    "(2.5,)",
    "('a',)",
    "(" * 200,
)
TYPES = (
    "'|O'",
    "'<U9999999'",
    "'<f8'",
    "'<M8[s]'",
    "'|V0'",
    "[('a', '<f4')]",
    "'x'",
    "None",
    "'>f4'",
    "'<c16'",
    "'|b1'",
)


def damage_tar(data: bytes, random: Random, damage: Damage) -> bytes:
    """Damages a member, or what its header says."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(entry, tar.extractfile(entry).read() if entry.isfile() else b"") for entry in tar]
    number = random.randrange(len(members))
    entry, content = members[number]
    match random.randrange(7):
        case 0:
            entry.name = random.choice(NAMES)
        case 1:
            entry.type = random.choice(
                (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"S", b"x", b"g")
            )
            entry.linkname = random.choice(("x", "../../x", members[0][0].name))
        case 2:
            members.insert(random.randrange(len(members)), (entry, content))
        case 3:
            del members[number]
        case 4:
            return _with_size(data, random)
        case _:
            members[number] = entry, damage(entry.name, content, random)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as tar:
        for entry, content in members:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _with_size(data: bytes, random: Random) -> bytes:
    """Another size in the first header, with the checksum that fits it."""
    sizes = (
        b"77777777777\0",
        b"00000000000\0",
        b"-0000000001\0",
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"xxxxxxxxxxx\0",
    )
    header = bytearray(data[:512])
    header[124:136] = random.choice(sizes)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def damage_zip(data: bytes, random: Random, damage: Damage) -> bytes:
    """Damages a member of a zip file, such as an ``.npz``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = random.randrange(len(members))
    name, content = members[number]
    match random.randrange(5):
        case 0:
            members[number] = random.choice(NAMES).encode(errors="replace").decode(), content
        case 1:
            del members[number]
        case _:
            members[number] = name, damage(name, content, random)
    stream = io.BytesIO()
    how = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content, how)
    return stream.getvalue()


def damage_npy(data: bytes, random: Random) -> bytes:
    """Another shape, type or order in the header, or other numbers."""
    if not data.startswith(b"\x93NUMPY"):
        return data
    end = 10 + int.from_bytes(data[8:10], "little")
    header, content = data[10:end].decode("latin1"), bytearray(data[end:])
    match random.randrange(5):
        case 0 | 1:
            start = header.index("'shape':") + 8
            header = f"{header[:start]} {random.choice(SHAPES)}, }}"
        case 2:
            start, stop = header.index("'descr':") + 8, header.index(", 'fortran")
            header = f"{header[:start]} {random.choice(TYPES)}{header[stop:]}"
        case 3:
            header = header.replace("False", random.choice(("True", "None", "0", "__import__('os')")))
        case _ if content:
            start = random.randrange(len(content))
            content[start : start + 4] = random.choice(
                (b"\0\0\xc0\x7f", b"\xff\xff\xff\xff", b"\0\x7e", b"\0\xfc", b"")
            )
    header = header.rstrip() + " " * (-(len(header.rstrip()) + 11) % 64) + "\n"
    return data[:8] + struct.pack("<H", len(header) % 65536) + header.encode("latin1") + bytes(content)


def damage_safetensors(data: bytes, random: Random, damage: Damage) -> bytes:
    """Damages the JSON that describes the tensors."""
    length = int.from_bytes(data[:8], "little")
    header = damage("header.json", data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def damage_png(data: bytes, random: Random) -> bytes:
    """Another size of the picture, with the checksum that fits it."""
    size = struct.pack(">II", *(random.choice((0, 1, 15, 16, 2000, 65535, 1 << 20, 1 << 31)) for _ in range(2)))
    header = b"IHDR" + size + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


# ------------------------------------------------------------------------------------------------------------- Parquet


def damage_parquet(data: bytes, random: Random) -> bytes:
    """Drops, renames, retypes, empties or shuffles a column, or changes the metadata."""
    table = pq.read_table(io.BytesIO(data))
    metadata = dict(table.schema.metadata or {})
    name = random.choice(table.column_names)
    place = table.column_names.index(name)
    rows = len(table)
    match random.randrange(9):
        case 0:
            table = table.drop([name])
        case 1:
            table = table.rename_columns(
                [random.choice(("", "x", "é")) if n == name else n for n in table.column_names]
            )
        case 2 | 3:
            table = table.set_column(place, name, _other_column(rows, random))
        case 4:
            values = [None if random.random() < 0.5 else value for value in table[name].to_pylist()]
            table = table.set_column(place, pa.field(name, table[name].type), pa.array(values, table[name].type))
        case 5:
            values = table[name].to_pylist()
            random.shuffle(values)
            table = table.set_column(place, pa.field(name, table[name].type), pa.array(values, table[name].type))
        case 6:
            table = (
                table.slice(0, random.randrange(rows + 1)) if random.random() < 0.5 else pa.concat_tables([table] * 2)
            )
        case 7:
            table = table.set_column(place, pa.field(name, table[name].type), _extreme(table[name], random))
        case _ if metadata:
            key = random.choice(list(metadata))
            metadata[key] = random.choice((b"", b"x", b"null", b"-1", b"1e9", b"[]", b"{}", b"\xff", b"9" * 30, b"0"))
            if random.random() < 0.2:
                del metadata[key]
        case _:
            table = table.append_column("more", pa.array([None] * rows, pa.int32()))
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), stream, row_group_size=random.choice((1, 7, 1000)))
    return stream.getvalue()


def _other_column(rows: int, random: Random) -> pa.Array:
    """A column of another type."""
    return random.choice(
        (
            pa.array([None] * rows, pa.null()),
            pa.array([1] * rows, pa.int64()),
            pa.array([-1] * rows, pa.int32()),
            pa.array([1.5] * rows, pa.float64()),
            pa.array(["x"] * rows, pa.string()),
            pa.array([b"\xff\xfe"] * rows, pa.binary()),
            pa.Array.from_buffers(pa.string(), rows, pa.array([b"\xff"] * rows, pa.binary()).buffers()),
            pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
            pa.array([[[0.5] * 4] * 2] * rows, pa.list_(pa.list_(pa.float32()))),
            pa.array([{"a": 1}] * rows, pa.struct([("a", pa.int64())])),
            pa.array([True] * rows, pa.bool_()),
            pa.array(["x"] * rows, pa.large_string()),
            pa.array(["x"] * rows).dictionary_encode(),
            pa.array([0] * rows, pa.timestamp("s")),
        )
    )


def _extreme(column: pa.ChunkedArray, random: Random) -> pa.Array:
    """One value of the column made extreme, wherever it lies in lists."""
    values = column.to_pylist()
    if values:
        place = random.randrange(len(values))
        values[place] = _changed(values[place], random)
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, TypeError, OverflowError):
        return column.combine_chunks()


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        return {**value, key: _changed(value[key], random)}
    choices = {
        int: (-1, 0, 2**31 - 1, -(2**31), 2**62, 10**6, 32767, None),
        float: (float("nan"), float("inf"), -1.0, 0.0, 1e30, None),
        str: ("", "\0", "x" * 5000, "\u202e", "\n", None),
        bytes: (b"", b"\xff", value[:-1] if isinstance(value, bytes) else b"", b"\0\x7e" * 64),
        list: ([], None),
    }
    return random.choice(choices.get(type(value), (None,)))


# -------------------------------------------------------------------------------------------------------------- pickles


class _Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return random_module.Random, (1,)


def damage_pickle(data: bytes, random: Random) -> bytes:
    """Other values, or what a pickle can do beside holding values."""
    value = pickles.unpickle(data)
    deep: Any = []
    for _ in range(20):
        deep = [deep, deep]
    numbers = (-1, 10**30, float("nan"), 1j, True, np.float32(1), np.datetime64(1, "s"))
    others = (None, "", "x" * 5000, b"\xff", [], {}, (1, 2), {1, 2}, [[[]]], {"a": 1}, deep, _Call())
    arrays = (np.zeros(3), np.zeros((0, 4), np.float32), np.array(["a"]), np.zeros((2, 1 << 16)))
    put = random.choice((*numbers, *others, *arrays))
    hostile = (
        b"\x80\x04r\xff\xff\xff\xff.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
        b"(" * 9000 + b".",
        b"]" * 9 + b"a.",
    )
    holder, key, node = None, None, value
    while isinstance(node, dict | list) and node and random.random() < 0.85:
        holder, key = node, random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = node[key]
    if random.random() < 0.1:
        return random.choice(hostile)
    if holder is None:
        value = put
    elif isinstance(holder, dict) and random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = put
    return pickle.dumps(value, random.randrange(6))


def describes(manifest: Any) -> bool:
    """Whether this is the manifest of a set of shards."""
    return isinstance(manifest, dict) and "index_sha256" in manifest and isinstance(manifest.get("shards"), list)


def as_json(data: bytes) -> Any:
    """The value, or None where it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
