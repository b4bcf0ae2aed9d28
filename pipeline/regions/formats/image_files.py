"""Regions in files of one image each: ViLBERT's, UNITER's, MILVLG's and MMF's.

Each layout is a function that turns a file into a record with ViLBERT's names. Pickles are read without running their
code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.regions.formats.arrays import MAX_BYTES, as_array, read_npy, read_npz
from pipeline.regions.formats.image_sizes import Sizes, is_sizes, read_sizes, size_of, to_pixels
from pipeline.regions.formats.records import Record, record_info, record_row
from pipeline.regions.rows import RegionRows
from shards.regions.table import RegionsInfo
from shards.storage.files import AnyPath

_INFO = "_info.npy"
_PADDED = re.compile(r"(?:flickr30k|vg)_0*(\d+)")
"""What UNITER calls the images of Flickr30k and Visual Genome, whose ids have no zeros before them elsewhere."""

Load = Callable[[AnyPath, Sizes], Record]
"""a function that returns the record of a file; the sizes of images are there for layouts without them"""


@dataclass(frozen=True)
class ImageFiles:
    """Reads a file for each image."""

    load: Load
    names: str
    """what the files of this layout hold, for the message that there is none"""

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
        features, sizes = _divide(self.files(sources))
        reason = "there is no file"
        for path in features:
            try:
                return record_info(path, self.load(path, read_sizes(sizes)), class_names, feature_size)
            except ValueError as error:
                reason = str(error)
        raise InputError(f"{sources[0]}: no {self.names}; the last file: {reason}")

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Sequence[AnyPath]]:
        """Yields runs of ``size`` files, each with the files of sizes behind it."""
        features, sizes = _divide(files)
        return iter([*features[start : start + size], *sizes] for start in range(0, len(features), size))

    def read(self, partition: Sequence[AnyPath], info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        features, sizes = _divide(partition)
        for path in features:
            try:
                yield record_row(self.load(path, read_sizes(sizes)), info)
            except ValueError as error:
                yield Reject(str(path), "file", str(error))


def _divide(files: Sequence[AnyPath]) -> tuple[list[AnyPath], tuple[AnyPath, ...]]:
    """Returns the files of features and those of sizes. MMF's second file of an image is read with its first."""
    sizes = tuple(path for path in files if is_sizes(path))
    return [path for path in files if not is_sizes(path) and not path.name.endswith(_INFO)], sizes


def _read(path: AnyPath) -> bytes:
    """Returns the bytes of a file.

    Raises:
        ValueError: there is no such file, or it is larger than an image's features can be.
    """
    if not path.is_file():
        raise ValueError(f"{path.name} is no file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"a file of more than {MAX_BYTES:,} bytes")
    data: bytes = path.read_bytes()
    return data


def _read_dict(path: AnyPath) -> dict[str, object]:
    record = read_npy(_read(path))
    if not isinstance(record, dict):
        raise ValueError(f"{path.name} holds no dict")
    return record


def _get(arrays: Record, *names: str) -> list[object]:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"lacks the arrays {', '.join(missing)}")
    return [arrays[name] for name in names]


def load_vilbert(path: AnyPath, _: Sizes) -> Record:
    """Reads an ``.npz``, or an ``.npy`` of a pickled dict, as ViLBERT's extractor writes it.

    The class distribution ``cls_prob`` has the background in column 0.
    """
    return _read_dict(path) if path.suffix == ".npy" else read_npz(_read(path))


def load_uniter(path: AnyPath, sizes: Sizes) -> Record:
    """Reads UNITER's ``.npz``: ``features`` [n, 2048], ``norm_bb`` [n, 6] and ``soft_labels`` [n, 1601].

    The first four numbers of ``norm_bb`` are the box as shares of the image, the others its width and height; the size
    of the image is not in the file. Column 0 of ``soft_labels`` is the background. The image id is the file's name.
    """
    features, boxes = _get(arrays := read_npz(_read(path)), "features", "norm_bb")
    shares = as_array(boxes, "norm_bb")
    if shares.ndim != 2 or shares.shape[1] < 4 or shares.dtype.kind != "f":
        raise ValueError(f"norm_bb is {shares.shape}, expected six numbers a box")
    image_id = _PADDED.sub(r"\1", path.stem)
    width, height = size_of(image_id, sizes)
    record = {
        "image_id": image_id,
        "image_w": width,
        "image_h": height,
        "num_boxes": len(shares),
        "boxes": to_pixels(shares, width, height),
        "features": features,
    }
    return record | ({"cls_prob": arrays["soft_labels"]} if "soft_labels" in arrays else {})


def load_milvlg(path: AnyPath, _: Sizes) -> Record:
    """Reads the ``.npz`` of MILVLG's bottom-up-attention.pytorch: ``x`` [n, 2048], ``bbox`` [n, 4] and ``num_bbox``.

    ``image_w`` and ``image_h`` are the size of the image. ``info`` is a pickled dict of the image id and the most
    likely class and attribute of each box, which count from 0 without the background.
    """
    arrays = read_npz(_read(path), pickled=("info",))
    features, boxes, number, width, height = _get(arrays, "x", "bbox", "num_bbox", "image_w", "image_h")
    info = arrays.get("info")
    classes = info if isinstance(info, dict) else {}
    return {
        **{name: classes[name] for name in ("objects_id", "objects_conf", "attrs_id", "attrs_conf") if name in classes},
        "image_id": classes.get("image_id", path.stem),
        "image_w": width,
        "image_h": height,
        "num_boxes": number,
        "boxes": boxes,
        "features": features,
    }


def load_mmf(path: AnyPath, _: Sizes) -> Record:
    """Reads the two files that MMF (and Pythia) write for an image: ``ID.npy`` and ``ID_info.npy``.

    The first is the matrix of features [n, 2048]. The second is a pickled dict with ``bbox``, ``num_boxes``,
    ``image_width``, ``image_height`` and, perhaps, ``cls_prob`` with the background in column 0.
    """
    info = _read_dict(path.with_name(f"{path.stem}{_INFO}"))
    return {**info, "image_id": path.stem, "features": as_array(read_npy(_read(path)), path.name)}
