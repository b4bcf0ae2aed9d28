"""Reads detector regions from the formats in which they are published.

Each format splits its sources into partitions that a worker reads on its own, and yields for every image a
`RegionsRow` or a `Reject`.
"""

from __future__ import annotations

import base64
import binascii
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol

import numpy as np
from numpy.lib.npyio import NpzFile

from pipeline.executor import Reject
from pipeline.tables import RegionsInfo, RegionsRow
from shards.errors import InputError
from shards.schema import Array, Classes, Regions

Rows = Iterator[RegionsRow | Reject]

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # an encrypted member; NotImplementedError, an unknown compression, is one of these
    zipfile.BadZipFile,
    zlib.error,
    TokenError,
    SyntaxError,
)
"""What reading a damaged .npz file raises."""


class RegionFormat(Protocol):
    """A published layout of region features."""

    def inspect(self, sources: list[Path], class_names: list[str] | None) -> RegionsInfo:
        """What holds for all rows, read off the first one.

        Raises:
            InputError: the sources are not of this format.
        """
        ...

    def files(self, sources: list[Path]) -> list[Path]:
        """The files that the sources name, in the order in which they are read."""
        ...

    def partitions(self, files: list[Path], size: int) -> Iterator[Any]:
        """Picklable partitions of about ``size`` images."""
        ...

    def read(self, partition: Any, info: RegionsInfo) -> Rows:
        """The images of a partition."""
        ...


# ---------------------------------------------------------------------------------------- bottom-up-attention TSV

TSV_COLUMNS = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
)
_TSV_ARRAYS: dict[str, np.dtype[Any]] = {
    "objects_id": np.dtype("<i8"),
    "objects_conf": np.dtype("<f4"),
    "attrs_id": np.dtype("<i8"),
    "attrs_conf": np.dtype("<f4"),
    "boxes": np.dtype("<f4"),
    "features": np.dtype("<f4"),
}


@dataclass(frozen=True)
class ByteRange:
    """The lines of a file that begin in ``start:end``."""

    path: Path
    start: int
    end: int


class ButdTsv:
    """Bottom-up-attention features in LXMERT's column order: `TSV_COLUMNS`, arrays as base64, no header.

    It holds the most likely class and attribute of each box with their confidence, no distribution.
    """

    def files(self, sources: list[Path]) -> list[Path]:
        """The sources are the files."""
        return sources

    def inspect(self, sources: list[Path], class_names: list[str] | None) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in sources:
            with path.open("rb") as stream:
                for line in stream:
                    try:
                        fields = _split_tsv(line)
                        n = int(fields["num_boxes"])
                        size = len(_decode_base64(fields, "features")) // max(n, 1)
                    except ValueError:
                        continue
                    if size:
                        return RegionsInfo(size, _argmax_classes(class_names), None)
        raise InputError(f"{sources[0]}: no line with the {len(TSV_COLUMNS)} columns {', '.join(TSV_COLUMNS)}")

    def partitions(self, files: list[Path], size: int) -> Iterator[ByteRange]:
        """Ranges of bytes, so that nothing is read twice: about ``size`` times the length of the first line."""
        for path in files:
            with path.open("rb") as stream:
                step = max(1, len(stream.readline())) * size
            total = path.stat().st_size
            for start in range(0, total, step):
                yield ByteRange(path, start, min(start + step, total))

    def read(self, partition: ByteRange, info: RegionsInfo) -> Rows:
        """See `RegionFormat`."""
        with partition.path.open("rb") as stream:
            stream.seek(max(partition.start - 1, 0))
            if partition.start:
                stream.readline()  # the line that begins before the range belongs to the range before
            while (position := stream.tell()) < partition.end:
                line = stream.readline()
                try:
                    yield self._row(line, info)
                except ValueError as error:
                    yield Reject(str(partition.path), f"byte {position}", str(error))

    def _row(self, line: bytes, info: RegionsInfo) -> RegionsRow:
        fields = _split_tsv(line)
        try:
            n, width, height = (int(fields[name]) for name in ("num_boxes", "img_w", "img_h"))
        except ValueError:
            raise ValueError("num_boxes, img_w or img_h is not a whole number") from None
        arrays = {name: _decode_base64(fields, name) for name in _TSV_ARRAYS}
        expected = dict.fromkeys(_TSV_ARRAYS, n) | {"boxes": 4 * n, "features": info.feature_size * n}
        for name, count in expected.items():
            if len(arrays[name]) != count:
                raise ValueError(f"{name} has the wrong size: {len(arrays[name])} values, expected {count}")
        regions = Regions(
            arrays["boxes"].reshape(n, 4),
            _to_half(arrays["features"].reshape(n, info.feature_size)),
            _to_ids(arrays["objects_id"].reshape(n, 1), info.classes.count),
            arrays["objects_conf"].astype(np.float16).reshape(n, 1),
        )
        if not fields["img_id"]:
            raise ValueError("no image id")
        regions.check(width, height)
        confidence = arrays["attrs_conf"]
        if not ((confidence >= 0) & (confidence <= 1.001)).all():
            raise ValueError("attribute probabilities are negative, not finite or more than 1")
        return RegionsRow(
            fields["img_id"],
            width,
            height,
            regions,
            _to_ids(arrays["attrs_id"].reshape(n, 1), None),
            confidence.astype(np.float16).reshape(n, 1),
        )


def _split_tsv(line: bytes) -> dict[str, str]:
    try:
        values = line.rstrip(b"\r\n").decode().split("\t")
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8") from None
    if len(values) != len(TSV_COLUMNS):
        raise ValueError(f"wrong number of columns: {len(values)}, expected {len(TSV_COLUMNS)}")
    return dict(zip(TSV_COLUMNS, values, strict=True))


def _decode_base64(fields: dict[str, str], name: str) -> Array:
    try:
        data = base64.b64decode(fields[name], validate=True)
    except binascii.Error:
        raise ValueError(f"{name} is not valid base64") from None
    dtype = _TSV_ARRAYS[name]
    if len(data) % dtype.itemsize:
        raise ValueError(f"{name} is not a whole number of {dtype.name} values")
    return np.frombuffer(data, dtype)


def _argmax_classes(names: list[str] | None) -> Classes:
    return Classes(kind="argmax", count=None if names is None else len(names), background=None, names=names)


# -------------------------------------------------------------------------------------------------- ViLBERT .npz


class VilbertNpz:
    """One ``.npz`` an image, with the keys of ViLBERT's extractor and its class distribution ``cls_prob``.

    Column 0 of ``cls_prob`` is the background.
    """

    KEYS = ("image_id", "image_width", "image_height", "num_boxes", "bbox", "features")

    def files(self, sources: list[Path]) -> list[Path]:
        """The sources and, for a folder, the ``.npz`` files in it, by name."""
        files: list[Path] = []
        for source in sources:
            files.extend(sorted(source.glob("*.npz")) if source.is_dir() else [source])
        return files

    def inspect(self, sources: list[Path], class_names: list[str] | None) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            try:
                arrays = self._load(path)
            except ValueError:
                continue
            size = arrays["features"].shape[-1]
            if "cls_prob" not in arrays:
                return RegionsInfo(size, Classes(kind="none", count=None, background=None, names=None), None)
            count = arrays["cls_prob"].shape[-1]
            if class_names is not None and len(class_names) != count - 1:
                raise InputError(
                    f"{path}: cls_prob has {count} columns, background and {count - 1} classes, "
                    f"but {len(class_names)} class names are given"
                )
            names = None if class_names is None else ["background", *class_names]
            return RegionsInfo(size, Classes(kind="distribution", count=count, background=0, names=names), None)
        raise InputError(f"{sources[0]}: no .npz file with the arrays {', '.join(self.KEYS)}")

    def partitions(self, files: list[Path], size: int) -> Iterator[list[Path]]:
        """Runs of ``size`` files."""
        for start in range(0, len(files), size):
            yield files[start : start + size]

    def read(self, partition: list[Path], info: RegionsInfo) -> Rows:
        """See `RegionFormat`."""
        for path in partition:
            try:
                yield self._row(path, info)
            except ValueError as error:
                yield Reject(str(path), "file", str(error))

    def _load(self, path: Path) -> dict[str, Array]:
        try:
            with NpzFile(path.open("rb"), own_fid=True, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except _UNREADABLE as error:
            raise ValueError(f"not a readable .npz file without pickles ({type(error).__name__})") from None
        missing = [key for key in self.KEYS if key not in arrays]
        if missing:
            raise ValueError(f"lacks the arrays {', '.join(missing)}")
        return arrays

    def _row(self, path: Path, info: RegionsInfo) -> RegionsRow:
        arrays = self._load(path)
        text = [name for name in arrays if name != "image_id" and arrays[name].dtype.kind not in "iufb"]
        if text:
            raise ValueError(f"{', '.join(text)} are not numbers")
        image_id = str(arrays["image_id"])
        if not image_id:
            raise ValueError("no image id")
        sizes = [arrays[name] for name in ("image_width", "image_height", "num_boxes")]
        if any(size.size != 1 for size in sizes):
            raise ValueError("image_width, image_height or num_boxes is not a single number")
        width, height, n = (int(size.item()) for size in sizes)
        boxes, features = arrays["bbox"], arrays["features"]
        if boxes.shape != (n, 4) or features.shape != (n, info.feature_size):
            raise ValueError(
                f"wrong sizes: bbox {boxes.shape}, features {features.shape}, expected ({n}, 4) and "
                f"({n}, {info.feature_size})"
            )
        ids = probabilities = None
        if info.classes.count is not None:
            distribution = arrays.get("cls_prob")
            if distribution is None or distribution.shape != (n, info.classes.count):
                raise ValueError(f"cls_prob is missing or not ({n}, {info.classes.count})")
            if not np.isfinite(distribution).all() or (distribution < 0).any():
                raise ValueError("class probabilities are negative or not finite")
            if (np.abs(distribution.sum(1) - 1) > 1e-3).any():
                raise ValueError("class probabilities do not sum to 1")
            order = np.argsort(-distribution, axis=1, kind="stable")
            ids = order.astype(np.int16)
            probabilities = np.take_along_axis(distribution, order, 1).astype(np.float16)
        regions = Regions(boxes.astype(np.float32), _to_half(features), ids, probabilities)
        regions.check(width, height)
        return RegionsRow(image_id, width, height, regions)


def _to_half(features: Array) -> Array:
    with np.errstate(over="ignore"):  # what overflows becomes infinity, which Regions.check rejects
        return features.astype(np.float16)


def _to_ids(ids: Array, count: int | None) -> Array:
    limit = count if count is not None else np.iinfo(np.int16).max + 1
    if (ids < 0).any() or (ids >= limit).any():
        raise ValueError(f"a class or attribute id outside 0 to {limit - 1}")
    return ids.astype(np.int16)


FORMATS: dict[str, RegionFormat] = {"butd-tsv": ButdTsv(), "vilbert-npz": VilbertNpz()}


def recognise(sources: list[Path]) -> tuple[str, str]:
    """(format, why) of the sources.

    Raises:
        InputError: a source is missing or in no format that we know.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: there is no such file or folder")
    first = sources[0]
    if first.is_dir() and any(first.glob("*.npz")):
        return "vilbert-npz", "a folder of .npz files"
    if first.suffix == ".npz":
        return "vilbert-npz", "an .npz file"
    if first.is_file():
        with first.open("rb") as stream:
            if stream.readline().count(b"\t") == len(TSV_COLUMNS) - 1:
                return "butd-tsv", f"{len(TSV_COLUMNS)} tab-separated columns"
    raise InputError(f"{first}: format not recognised; name it with --format ({', '.join(FORMATS)})")
