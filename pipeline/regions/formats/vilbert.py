"""Regions as ViLBERT's extractor and its converters write them: a file for each image, or an LMDB of pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tokenize import TokenError

import lmdb
import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from parsers.command import InputError, pluralize
from pipeline.execution.parts import Reject
from pipeline.regions.rows import RegionRows, distribution_info, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.regions.tsv import decode_base64, parse_integer, read_floats
from shards.schema import Array
from shards.storage import pickles
from shards.storage.files import AnyPath

VilbertRecord = Mapping[str, object]
_NAMES = {
    "image_id": ("image_id",),
    "width": ("image_width", "image_w"),
    "height": ("image_height", "image_h"),
    "num_boxes": ("num_boxes",),
    "boxes": ("bbox", "boxes"),
    "features": ("features",),
}
"""The names that the extractor and the converters have for the same value."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # an encrypted member, or (NotImplementedError) an unknown compression
    zipfile.BadZipFile,
    zlib.error,
    TokenError,
    SyntaxError,
)
"""The errors that reading a damaged .npz file raises."""


def _info(path: AnyPath, record: VilbertRecord, class_names: list[str] | None, feature_size: int | None) -> RegionsInfo:
    values = _named(record)
    n = parse_integer(values["num_boxes"], "num_boxes")
    columns = _matrix(record, "cls_prob", n).shape[1] if "cls_prob" in record else None
    size = feature_size or _matrix(values, "features", n).shape[1]
    return distribution_info(path, size, columns, class_names)


def _row(record: VilbertRecord, info: RegionsInfo) -> RegionsRow:
    values = _named(record)
    n, width, height = (parse_integer(values[name], name) for name in ("num_boxes", "width", "height"))
    return make_row(
        _text(values["image_id"]),
        width,
        height,
        _matrix(values, "boxes", n, 4),
        _matrix(values, "features", n, info.feature_size),
        _matrix(record, "cls_prob", n) if "cls_prob" in record else None,
        info,
    )


def _named(record: VilbertRecord) -> dict[str, object]:
    found = {name: next((record[key] for key in keys if key in record), None) for name, keys in _NAMES.items()}
    missing = [_NAMES[name][0] for name, value in found.items() if value is None]
    if missing:
        raise ValueError(f"lacks the arrays {', '.join(missing)}")
    return found


def _text(value: object) -> str:
    return value.decode("utf-8", "strict") if isinstance(value, bytes) else str(value)


def _matrix(record: VilbertRecord, name: str, n: int, columns: int | None = None) -> Array:
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


class VilbertFiles:
    """Reads one file for each image, as ViLBERT's extractor writes it: an ``.npz``, or an ``.npy`` of a pickled dict.

    The class distribution ``cls_prob`` has the background in column 0. Pickles are read without running their code.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the sources; a folder stands for the ``.npz`` and ``.npy`` files in it, sorted by name."""
        files: list[AnyPath] = []
        for source in sources:
            inside = [path for path in source.iterdir() if path.suffix in (".npz", ".npy")] if source.is_dir() else []
            files.extend(sorted(inside, key=str) if source.is_dir() else [source])
        return files

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            try:
                return _info(path, _load(path), class_names, feature_size)
            except ValueError:
                continue
        raise InputError(
            f"{sources[0]}: no .npz or .npy file with the arrays {', '.join(k[0] for k in _NAMES.values())}"
        )

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Sequence[AnyPath]]:
        """Yields runs of ``size`` files."""
        return iter(files[start : start + size] for start in range(0, len(files), size))

    def read(self, partition: Sequence[AnyPath], info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        for path in partition:
            try:
                yield _row(_load(path), info)
            except ValueError as error:
                yield Reject(str(path), "file", str(error))


def _load(path: AnyPath) -> VilbertRecord:
    with path.open("rb") as stream:
        if path.suffix == ".npy":
            return _load_npy(stream.read())
        try:
            with NpzFile(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except _UNREADABLE as error:
            raise ValueError(f"not a readable .npz file without pickles ({type(error).__name__})") from None


def _load_npy(data: bytes) -> VilbertRecord:
    """Returns the dict that ``np.save`` pickled."""
    if not data.startswith(npy.MAGIC_PREFIX) or len(data) < 12:
        raise ValueError("not an .npy file")
    header = 10 + int.from_bytes(data[8:10], "little") if data[6] == 1 else 12 + int.from_bytes(data[8:12], "little")
    record = pickles.load(data[header:])
    if not isinstance(record, dict):
        raise ValueError("its pickle is no dict")
    return record


@dataclass(frozen=True)
class Keys:
    """A run of records of an LMDB."""

    path: AnyPath
    keys: tuple[bytes, ...]


class VilbertLmdb:
    """Reads an LMDB of pickled dicts in both published layouts: arrays are base64 (ViLBERT) or pickled (12-in-1).

    The record under ``keys`` is not needed. Pickles are read without running their code.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the data file of each environment."""
        return [_data_file(source) for source in sources]

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            with _open(path) as environment, environment.begin() as transaction:
                for key, value in transaction.cursor():
                    try:
                        if key != b"keys":
                            return _info(path, _record(value), class_names, feature_size)
                    except ValueError:
                        continue
        raise InputError(f"{sources[0]}: no record with the values {', '.join(k[0] for k in _NAMES.values())}")

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Keys]:
        """Yields runs of ``size`` keys, in the order of the LMDB."""
        for path in files:
            after = b""
            while keys := _keys_after(path, after, size):
                yield Keys(path, tuple(key for key in keys if key != b"keys"))
                after = keys[-1]

    def read(self, partition: Keys, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        with _open(partition.path) as environment, environment.begin() as transaction:
            for key in partition.keys:
                try:
                    yield _row(_record(transaction.get(key) or b""), info)
                except ValueError as error:
                    yield Reject(str(partition.path), f"key {key.decode(errors='backslashreplace')}", str(error))


def _keys_after(path: AnyPath, last: bytes, count: int) -> list[bytes]:
    """Returns the next keys. The LMDB is closed between two calls, because a process may not open it twice."""
    with _open(path) as environment, environment.begin() as transaction:
        cursor = transaction.cursor()
        cursor.set_range(last)
        keys = (bytes(key) for key in cursor.iternext(keys=True, values=False))
        return list(islice((key for key in keys if key != last), count))


def _record(data: bytes) -> VilbertRecord:
    record = pickles.load(data)
    if not isinstance(record, dict):
        raise ValueError("its pickle is no dict")
    return record


def _data_file(source: AnyPath) -> Path:
    if not isinstance(source, Path):
        raise InputError(f"{source}: an LMDB is read through memory and must lie on a local disk; copy it first")
    return source / "data.mdb" if source.is_dir() else source


def _open(path: AnyPath) -> lmdb.Environment:
    """Opens an LMDB.

    Raises:
        InputError: it is no LMDB, or it is shorter than it says: reading beyond its end would end the process.
    """
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, subdir=False)
    except lmdb.Error as error:
        raise InputError(f"{path}: cannot be read as an LMDB: {error}") from error
    pages = environment.info()["last_pgno"] + 1
    if path.stat().st_size < pages * environment.stat()["psize"]:
        environment.close()
        raise InputError(
            f"{path}: is cut off: it has {pluralize(path.stat().st_size, 'byte')} but names {pluralize(pages, 'page')}"
        )
    return environment
