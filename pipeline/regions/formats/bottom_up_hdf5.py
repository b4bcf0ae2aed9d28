"""Regions in the HDF5 files that bottom-up-attention's VQA code makes of its TSV files, such as ``trainval36.hdf5``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.ids import text_of_id
from pipeline.regions.formats.vinvl_tsv import TOLERANCE, infer_size
from pipeline.regions.rows import NO_CLASSES, RegionRows, make_row
from shards.regions.table import RegionsInfo, RegionsRow
from shards.schema import MAX_REGIONS
from shards.storage import pickles
from shards.storage.files import AnyPath

FEATURES, BOXES, SHARES, PLACES = "image_features", "image_bb", "spatial_features", "pos_boxes"
SUFFIXES = (".hdf5", ".h5")


@dataclass(frozen=True)
class Images:
    """A run of images of a file."""

    path: AnyPath
    ids: AnyPath
    """the pickle with the image ids"""
    start: int
    end: int


class BottomUpHdf5:
    """Reads ``image_features`` [images, 36, 2048], ``image_bb`` [images, 36, 4], ``spatial_features`` [images, 36, 6].

    The first four of the last are the box as shares of the image, which tell its size; there are no classes. In files
    with 10 to 100 boxes an image, all boxes lie in one matrix, and ``pos_boxes`` [images, 2] says where those of an
    image begin and end. The pickle ``…_imgid2idx.pkl`` beside it maps image ids to their numbers.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns each file with the pickle that belongs to it behind it.

        Raises:
            InputError: there is no such pickle, or the file is not on a disk.
        """
        files: list[AnyPath] = []
        for path in (path for path in sources if path.suffix in SUFFIXES):
            if not isinstance(path, Path):
                raise InputError(f"{path}: HDF5 is read from a local disk only; copy it first")
            beside = path.with_name(f"{path.stem}_imgid2idx.pkl")
            given = [source for source in sources if source.suffix == ".pkl"]
            ids = beside if beside.is_file() else next(iter(given), None)
            if ids is None:
                raise InputError(f"{path}: its image ids are not there; put {beside.name} beside it")
            files += [path, ids]
        return files

    def inspect(self, sources: Sequence[AnyPath], _: list[str] | None, feature_size: int | None = None) -> RegionsInfo:
        """See `RegionFormat`."""
        path = self.files(sources)[0]
        with _open(path) as file:
            size = int(file[FEATURES].shape[-1])
        if feature_size not in (None, size):
            raise InputError(f"{path}: has features of size {size}, not {feature_size}")
        return RegionsInfo(size, NO_CLASSES, None)

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Images]:
        """Yields runs of ``size`` images."""
        for path, ids in zip(files[::2], files[1::2], strict=True):
            with _open(path) as file:
                count = len(file[PLACES] if PLACES in file else file[FEATURES])
            yield from (Images(path, ids, start, min(start + size, count)) for start in range(0, count, size))

    def read(self, partition: Images, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        ids = _read_ids(partition.ids)
        with _open(partition.path) as file:
            for number in range(partition.start, partition.end):
                try:
                    yield _row(file, number, ids.get(number), info)
                except (ValueError, OSError, RuntimeError) as error:
                    yield Reject(str(partition.path), f"image {number}", " ".join(str(error).split()))


def _row(file: Any, number: int, image_id: str | None, info: RegionsInfo) -> RegionsRow:
    if image_id is None:
        raise ValueError("no image id has this number")
    rows: Any = number
    if PLACES in file:
        start, end = (int(place) for place in file[PLACES][number])
        if not 0 <= start < end <= start + MAX_REGIONS or end > len(file[FEATURES]):
            raise ValueError(f"{PLACES} is {start} to {end}, expected 1 to {MAX_REGIONS} boxes of the file")
        rows = slice(start, end)
    features, boxes, shares = (file[name][rows] for name in (FEATURES, BOXES, SHARES))
    width, height = infer_size(boxes, shares)
    with np.errstate(invalid="ignore"):  # NaN is not close to anything
        fit = np.abs(boxes - shares[:, :4] * np.array([width, height] * 2)) <= TOLERANCE
    if not fit.all():
        raise ValueError(f"{BOXES} and {SHARES} do not fit each other")
    return make_row(image_id, width, height, boxes, features, None, info)


@lru_cache(maxsize=2)  # a worker reads it once, not for each partition
def _read_ids(path: AnyPath) -> dict[int, str]:
    """Returns the image id of each number.

    Raises:
        InputError: the file is no pickle of image ids and their numbers.
    """
    try:
        numbers = pickles.unpickle(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as image ids: {error}") from error
    ids = {number: text_of_id(key) for key, number in numbers.items()} if isinstance(numbers, dict) else {}
    good = {number: key for number, key in ids.items() if isinstance(number, int) and key is not None}
    if not good or len(good) != len(numbers):
        raise InputError(f"{path}: is no dict of image ids and their different numbers")
    return good


@contextmanager
def _open(path: AnyPath) -> Iterator[Any]:
    """Opens a file.

    Raises:
        InputError: h5py is missing, or the file has other datasets or refers to other files.
    """
    try:
        import h5py  # imported late, because it is an extra
    except ImportError as error:
        raise InputError(f'{path}: reading HDF5 needs h5py; pip install "ernie-vil-pytorch[hdf5]"') from error
    try:
        file = h5py.File(str(path), "r")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5: {' '.join(str(error).split())}") from error
    with file:
        try:
            adaptive = PLACES in file
            for name, sides in ((FEATURES, 3), (BOXES, 3), (SHARES, 3), *([(PLACES, 3)] if adaptive else [])):
                _check_dataset(file, name, sides - adaptive)
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}") from error
        yield file


def _check_dataset(file: Any, name: str, sides: int) -> None:
    """Checks a dataset before it is read.

    Raises:
        ValueError: it is no matrix of numbers of the right kind, or it lies in another file.
    """
    import h5py

    link = file.get(name, getlink=True)
    dataset = file.get(name) if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"has no dataset {name}")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} refers to another file")
    columns = {BOXES: 4, SHARES: 6, PLACES: 2}.get(name, 1)
    if dataset.dtype.kind not in "iuf" or dataset.ndim != sides or dataset.shape[-1] < columns:
        raise ValueError(f"{name} is {dataset.shape} of {dataset.dtype}, which is not its layout")
    if sides == 3 and dataset.shape[1] > MAX_REGIONS:
        raise ValueError(f"{name} has {dataset.shape[1]:,} boxes an image, expected at most {MAX_REGIONS}")
    if dataset.shape[-1] > MAX_COLUMNS:
        raise ValueError(f"{name} has {dataset.shape[-1]:,} numbers a box, expected at most {MAX_COLUMNS:,}")


MAX_COLUMNS = 1 << 16
"""The most numbers in a feature: an image then takes 50 MB at most."""
