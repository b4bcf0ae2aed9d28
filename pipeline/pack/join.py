"""Joins captions and regions by image id: which images are packed, and what becomes of the others.

Only ids are held in memory. The captions with their graphs lie in one memory-mapped Arrow file in the order in which
they came; the captions of an image are looked up there by their row numbers, sorted by image id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from parsers.command import InputError
from pipeline.graph_table import GRAPHS
from shards.regions.table import read_image_ids
from shards.schema import Array
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath, read_lines
from shards.storage.parquet import parquet_file

BATCH = 1 << 14
"""Rows of a batch of the Arrow file."""


class Fate(IntEnum):
    """What becomes of a row of the regions."""

    PACKED = 0
    HELD_OUT = 1
    EXCLUDED = 2
    NO_CAPTIONS = 3
    REPEATED = 4


class Text:
    """All captions: written once to ``path``, then looked up by image.

    Raises:
        InputError: two folders hold captions of the same image.
    """

    def __init__(self, folders: Sequence[AnyPath], path: Path) -> None:
        counts, ids = [], []
        with path.open("wb") as stream, pa.ipc.new_file(stream, GRAPHS) as writer:
            for folder in folders:
                rows = 0
                for part in parts_of(folder):
                    for batch in parquet_file(part).iter_batches(BATCH):
                        writer.write_batch(_with_all_columns(batch))
                        ids.append(batch["image_id"].cast(pa.large_string()))
                        rows += len(batch)
                counts.append(rows)
        self._starts = np.cumsum([0, *(len(column) for column in ids)])
        encoded = pa.chunked_array(ids, pa.large_string()).combine_chunks().dictionary_encode()
        self.image_ids: pa.LargeStringArray = encoded.dictionary
        """Each image with captions once."""
        images = encoded.indices.to_numpy()
        self._order = np.argsort(images, kind="stable").astype(np.int64)
        self._ends = np.cumsum(np.bincount(images, minlength=len(self.image_ids)))
        self._path = path
        _refuse_shared("captions", folders, np.repeat(np.arange(len(folders)), counts), images, self.image_ids)

    def __len__(self) -> int:
        return len(self._order)

    @cached_property
    def counts(self) -> Array:
        """int64 [images]: how many captions each has."""
        return np.diff(self._ends, prepend=0)

    def take(self, images: Array) -> pa.Table:
        """The captions of some images, image by image, each image's in the order in which they came."""
        ranges = [
            self._order[end - count : end] for end, count in zip(self._ends[images], self.counts[images], strict=True)
        ]
        rows = np.concatenate([np.zeros(0, np.int64), *ranges])
        batches = np.searchsorted(self._starts, rows, "right") - 1
        taken, places = [], []
        for batch in np.unique(batches):
            here = np.flatnonzero(batches == batch)
            taken.append(self._file.get_batch(int(batch)).take(pa.array(rows[here] - self._starts[batch])))
            places.append(here)
        table = pa.Table.from_batches(taken, GRAPHS)
        return table.take(pa.array(np.argsort(np.concatenate([np.zeros(0, np.int64), *places])))).combine_chunks()

    @cached_property
    def _file(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._path)))


def _with_all_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Tables that were written before captions had segments lack that column."""
    columns = [
        batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type) for field in GRAPHS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=GRAPHS)


def _refuse_shared(what: str, folders: Sequence[AnyPath], owners: Array, images: Array, image_ids: pa.Array) -> None:
    """Raises InputError if rows of the same image, by its number in ``image_ids``, come from two folders."""
    first = np.full(len(image_ids), len(folders))
    np.minimum.at(first, images, owners)
    clash = np.flatnonzero(first[images] != owners)
    if len(clash):
        image = images[clash[0]]
        raise InputError(
            f"image {image_ids[int(image)].as_py()!r} has {what} in {folders[first[image]]} and in "
            f"{folders[owners[clash[0]]]}; give one of them"
        )


@dataclass(frozen=True)
class RegionsPart:
    """A part of the regions and what becomes of each of its rows."""

    path: AnyPath
    image_ids: Sequence[str]
    fates: Array
    """uint8 [rows], of `Fate`"""
    images: Array
    """int64 [rows]: number of the image in `Text.image_ids`, -1 if it has no captions"""


@dataclass(frozen=True)
class Accounts:
    """How many images and captions went where; the kinds add up to ``total``."""

    total: int
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Join:
    """What becomes of every image. What the workers find out, packed, held out or rejected, is not counted here."""

    parts: Sequence[RegionsPart]
    images: Accounts
    captions: Accounts
    without_regions: Sequence[str]
    without_captions: Sequence[str]


def join(
    text: Text,
    folders: Sequence[AnyPath],
    excluded: pa.Array,
    id_map: Mapping[str, str],
    held_out: Callable[[str], bool],
) -> Join:
    """Decides what becomes of every image.

    Args:
        text: the captions.
        folders: of regions.
        excluded: ids of images that must not be packed.
        id_map: from ids of the regions to those of the captions, where they differ.
        held_out: whether an image belongs to the held-out split.

    Raises:
        InputError: two folders hold regions of the same image.
    """
    paths, columns, owners = [], [], []
    for number, folder in enumerate(folders):
        for part in parts_of(folder):
            paths.append(part)
            columns.append(_region_ids(part, id_map))
            owners.append(np.full(len(columns[-1]), number))
    ids = pa.chunked_array(columns, pa.large_string()).combine_chunks()
    encoded = ids.dictionary_encode()
    codes = encoded.indices.to_numpy()
    _refuse_shared("regions", folders, np.concatenate(owners), codes, encoded.dictionary)
    _, first = np.unique(codes, return_index=True)
    images = pc.fill_null(pc.index_in(ids, value_set=text.image_ids), -1).to_numpy().astype(np.int64)
    is_excluded = pc.is_in(ids, value_set=excluded).to_numpy(zero_copy_only=False)
    fates = np.full(len(ids), Fate.REPEATED, np.uint8)
    fates[first] = Fate.PACKED
    alone = (fates == Fate.PACKED) & (images < 0)
    fates[alone] = Fate.NO_CAPTIONS
    fates[(fates != Fate.REPEATED) & is_excluded] = Fate.EXCLUDED
    names = ids.to_pylist()
    for row in np.flatnonzero(fates == Fate.PACKED):
        if held_out(names[row]):
            fates[row] = Fate.HELD_OUT

    text_excluded = pc.is_in(text.image_ids, value_set=excluded).to_numpy(zero_copy_only=False)
    has_regions = np.zeros(len(text.image_ids), bool)
    has_regions[images[images >= 0]] = True
    lonely = ~has_regions & ~text_excluded
    regions_only = images[first] < 0
    starts = np.cumsum([0, *map(len, columns)])
    return Join(
        [
            RegionsPart(path, names[start:end], fates[start:end], images[start:end])
            for path, start, end in zip(paths, starts, starts[1:], strict=False)
        ],
        Accounts(
            len(text.image_ids) + int(regions_only.sum()),
            {
                "excluded": int(text_excluded.sum() + (regions_only & is_excluded[first]).sum()),
                "no regions": int(lonely.sum()),
                "no captions": int((fates == Fate.NO_CAPTIONS).sum()),
            },
        ),
        Accounts(
            len(text),
            {"excluded": int(text.counts[text_excluded].sum()), "no regions": int(text.counts[lonely].sum())},
        ),
        text.image_ids.filter(pa.array(lonely)).to_pylist(),
        [names[row] for row in np.flatnonzero(fates == Fate.NO_CAPTIONS)],
    )


def _region_ids(part: AnyPath, id_map: Mapping[str, str]) -> pa.Array:
    ids = read_image_ids(part)
    if id_map:
        ids = pa.chunked_array([[id_map.get(image_id, image_id) for image_id in ids.to_pylist()]], pa.large_string())
    return ids.cast(pa.large_string()).combine_chunks()


def read_id_map(path: AnyPath) -> dict[str, str]:
    """The columns ``from`` and ``to`` of a Parquet file.

    Raises:
        InputError: it is no such file, or maps two ids to one or one to two.
    """
    try:
        table = parquet_file(path).read(["from", "to"])
        old, new = (table[name].cast(pa.string()).to_pylist() for name in ("from", "to"))
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{path}: is no Parquet file with the columns `from` and `to`: {error}") from error
    for name, values in (("from", old), ("to", new)):
        seen: set[str | None] = {None}
        for value in values:
            if value in seen:
                raise InputError(f"{path}: the id {value!r} occurs twice (or is null) in the column `{name}`")
            seen.add(value)
    return dict(zip(old, new, strict=True))


def read_id_lists(paths: Sequence[AnyPath]) -> dict[str, frozenset[str]]:
    """Lists of image ids, one a line, by file."""
    return {str(path): frozenset(filter(None, map(str.strip, read_lines(path)))) for path in paths}
