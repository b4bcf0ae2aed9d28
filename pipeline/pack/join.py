"""Joins captions and regions by image id: which images are packed, and what becomes of the others.

Only ids are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ids import refuse_shared_images
from pipeline.pack.accounts import Account, Outcome
from pipeline.row_store import RowStore
from shards.regions.table import read_image_ids
from shards.schema import Array
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath


class Fate(IntEnum):
    """What becomes of a row of the regions."""

    PACKED = 0
    HELD_OUT = 1
    EXCLUDED = 2
    NO_CAPTIONS = 3
    REPEATED = 4


@dataclass(frozen=True)
class RegionsPart:
    """A part of the regions and what becomes of each of its rows."""

    path: AnyPath
    image_ids: Sequence[str]
    fates: Array
    """uint8 [rows], values of `Fate`"""
    images: Array
    """int64 [rows]: the number of the image in `RowStore.image_ids`, -1 if it has no captions"""


@dataclass(frozen=True)
class Join:
    """What becomes of every image. The accounts lack the outcomes that only the workers find out."""

    parts: Sequence[RegionsPart]
    images: Account
    captions: Account
    negatives: Account
    """of the false captions"""
    without_regions: Sequence[str]
    without_captions: Sequence[str]
    region_ids: pa.LargeStringArray
    """the image id of each row of the regions"""


def join(
    captions: RowStore,
    folders: Sequence[AnyPath],
    excluded: pa.Array,
    rename: Callable[[str], str] | None,
    held_out: Callable[[str], bool],
    negative_counts: Array | None = None,
) -> Join:
    """Decides what becomes of every image.

    Say the captions belong to the images a, a, b and c, the rows of the regions to b, a, d and b again, and a is
    excluded:

    ========  ======  ========  ===========  ========
    row       0       1         2            3
    ========  ======  ========  ===========  ========
    image id  b       a         d            b
    image     1       0         -1           1
    fate      PACKED  EXCLUDED  NO_CAPTIONS  REPEATED
    ========  ======  ========  ===========  ========

    Of the 4 images one is excluded (a), one has no regions (c), one has no captions (d), and b is left to be packed.
    Of the 4 captions two are excluded, one has no regions, and one is left.

    Args:
        captions: the captions.
        folders: the folders of regions.
        excluded: the ids of images that must not be packed.
        rename: returns what the captions call an image of the regions; None: they have the same ids.
        held_out: says whether an image belongs to the held-out split.
        negative_counts: int64 [images]: how many false captions each image of ``captions`` has; None: there are none.

    Raises:
        InputError: two folders hold regions of the same image.
    """
    rows = _read_rows(folders, rename)
    images = pc.fill_null(pc.index_in(rows.ids, value_set=captions.image_ids), -1).to_numpy().astype(np.int64)
    row_excluded = _is_in(rows.ids, excluded)
    fates = _decide_fates(rows, images, row_excluded, held_out)

    image_excluded = _is_in(captions.image_ids, excluded)
    has_regions = np.zeros(len(captions.image_ids), bool)
    has_regions[images[images >= 0]] = True
    without_regions = ~has_regions & ~image_excluded
    regions_only = rows.first[images[rows.first] < 0]
    without_captions = np.flatnonzero(fates == Fate.NO_CAPTIONS)
    image_outcomes = {
        Outcome.EXCLUDED: int(image_excluded.sum() + row_excluded[regions_only].sum()),
        Outcome.NO_REGIONS: int(without_regions.sum()),
        Outcome.NO_CAPTIONS: len(without_captions),
    }

    def account(counts: Array) -> Account:
        """The account of what images have, which goes where they go."""
        unpacked = {Outcome.EXCLUDED: image_excluded, Outcome.NO_REGIONS: without_regions}
        return Account(int(counts.sum()), {outcome: int(counts[images].sum()) for outcome, images in unpacked.items()})

    return Join(
        [
            RegionsPart(path, rows.names[start:end], fates[start:end], images[start:end])
            for path, start, end in zip(rows.parts, rows.starts, rows.starts[1:], strict=False)
        ],
        Account(len(captions.image_ids) + len(regions_only), image_outcomes),
        account(captions.counts),
        account(np.zeros_like(captions.counts) if negative_counts is None else negative_counts),
        captions.image_ids.filter(pa.array(without_regions)).to_pylist(),
        [rows.names[row] for row in without_captions],
        rows.ids,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows of all parts of the regions, one part after the other."""

    parts: list[AnyPath]
    starts: Array
    """int64 [parts + 1]: the rows of part p are ``starts[p]:starts[p + 1]``"""
    ids: pa.LargeStringArray
    names: list[str]
    """the ids as Python strings"""
    first: Array
    """int64 [images]: the first row of each image"""


def _read_rows(folders: Sequence[AnyPath], rename: Callable[[str], str] | None) -> _Rows:
    parts = [(part, number) for number, folder in enumerate(folders) for part in parts_of(folder)]
    columns = [_read_ids(part, rename) for part, _ in parts]
    lengths = [len(column) for column in columns]
    ids = pa.chunked_array(columns, pa.large_string()).combine_chunks()
    encoded = ids.dictionary_encode()
    images = encoded.indices.to_numpy()
    row_folders = np.repeat([number for _, number in parts], lengths)
    refuse_shared_images("regions", folders, row_folders, images, encoded.dictionary)
    _, first = np.unique(images, return_index=True)
    return _Rows([part for part, _ in parts], np.cumsum([0, *lengths]), ids, ids.to_pylist(), first)


def _read_ids(part: AnyPath, rename: Callable[[str], str] | None) -> pa.Array:
    """Reads the image ids of a part, as the captions call the images."""
    ids = read_image_ids(part)
    if rename is not None:
        ids = pa.chunked_array([list(map(rename, ids.to_pylist()))], pa.large_string())
    return ids.cast(pa.large_string()).combine_chunks()


def _is_in(ids: pa.Array, values: pa.Array) -> Array:
    found: Array = pc.is_in(ids, value_set=values).to_numpy(zero_copy_only=False)
    return found


def _decide_fates(rows: _Rows, images: Array, excluded: Array, held_out: Callable[[str], bool]) -> Array:
    """Returns the fate of each row, uint8 [rows]."""
    fates = np.full(len(rows.names), Fate.REPEATED, np.uint8)
    fates[rows.first] = np.where(images[rows.first] < 0, Fate.NO_CAPTIONS, Fate.PACKED)
    fates[rows.first[excluded[rows.first]]] = Fate.EXCLUDED
    for row in np.flatnonzero(fates == Fate.PACKED):
        if held_out(rows.names[row]):
            fates[row] = Fate.HELD_OUT
    return fates
