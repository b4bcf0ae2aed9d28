"""The captions of a split and the numbers of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.released.tsv import is_released, parse_lines
from parsers.command import InputError, pluralize, say
from pipeline.holdout import TRAIN, VAL, choose_holdout, is_held_out
from pipeline.parse import captions as caption_files
from pipeline.parse.captions import CaptionRow
from pipeline.parse.recognition import recognise_captions
from pipeline.parse.rows import Columns
from shards.regions.tsv import Fields
from shards.schema import Array

COLUMNS = ("image_id", "caption_id", "caption")
"""The columns of a released file of captions, which has no header."""


@dataclass(frozen=True, slots=True)
class RetrievalCaption:
    """A caption of an image."""

    caption_id: str
    image_id: str
    text: str


def read_captions(data: Path, split: str, columns: Columns) -> list[RetrievalCaption]:
    """Reads a split of captions from files in any format of `pipeline.parse`, or from a released file of captions.

    Args:
        data: a file of captions; or a folder with one ``dataset_*.json``, or with a file for each split.
        split: a split that the file names. A file that names none has ``train`` and ``val``: a fifth of its images, at
            most 200, are ``val``. Or the name of a file in the folder, all of which is the split.
        columns: what the columns of a table are called.

    Raises:
        InputError: the file is missing or damaged, has no such split, or has two captions with the same id.
    """
    path = _find_file(data, split)
    if is_released(split) and _lacks_header(path, columns):
        captions = parse_lines(path, COLUMNS, _parse_released)
    else:
        captions = _choose(_read_rows(path, columns), path, None if path == data / split else split)
    if len({caption.caption_id for caption in captions}) < len(captions):
        raise InputError(f"{path}: captions of {split} share an id; each needs its own")
    return captions


def _find_file(data: Path, split: str) -> Path:
    if Path(split).suffix:
        return data / split
    if not data.is_dir():
        return data
    paths = sorted(data.glob("dataset_*.json"))
    if len(paths) != 1:
        raise InputError(
            f"{data}: holds {len(paths)} files dataset_*.json, but needs one (Karpathy's splits); or name a file of "
            "captions in place of the folder, or in place of the split"
        )
    return paths[0]


def _lacks_header(path: Path, columns: Columns) -> bool:
    """Says whether the first line of a tab-separated file is a caption and not the names of columns."""
    try:
        with path.open("rb") as stream:
            first = stream.readline()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return columns.get("caption", "caption").encode() not in first.rstrip(b"\r\n").split(b"\t")


def _parse_released(_: str, fields: Fields) -> RetrievalCaption:
    return RetrievalCaption(fields["caption_id"], fields["image_id"], fields["caption"])


def _read_rows(path: Path, columns: Columns) -> list[CaptionRow]:
    """Reads all captions of a file, and says how many of its rows are none."""
    format, _ = recognise_captions(path, columns)
    found = list(caption_files.read(path, format, columns))
    rows = [row for row in found if isinstance(row, CaptionRow)]
    rejects = [row for row in found if not isinstance(row, CaptionRow)]
    if not rows:
        why = f"; {rejects[0].position}: {rejects[0].reason}" if rejects else ""
        raise InputError(f"{path}: holds no captions ({format}){why}")
    if rejects:
        say(
            f"{path}: {pluralize(len(rejects), 'row')} cannot be used and are left out, the first is "
            f"{rejects[0].position}: {rejects[0].reason}"
        )
    return rows


def _choose(rows: Sequence[CaptionRow], path: Path, split: str | None) -> list[RetrievalCaption]:
    """Returns the captions of a split; all of them if none is named. A caption without an id is known by its place."""
    named = sorted({row.split for row in rows if row.split is not None})
    if split is not None and split not in (named or (TRAIN, VAL)):
        why = "" if named else f": it names none, so a fifth of its images is {VAL}, and the others are {TRAIN}"
        raise InputError(f"{path}: has no split {split!r}, only {', '.join(named or (TRAIN, VAL))}{why}")
    share = choose_holdout({row.image_id for row in rows}) if split is not None and not named else 0.0

    def belongs(row: CaptionRow) -> bool:
        if split is None or named:
            return split in (None, row.split)
        return is_held_out(row.image_id, share) == (split == VAL)

    return [
        RetrievalCaption(row.caption_id or str(place), row.image_id, row.caption)
        for place, row in enumerate(rows)
        if belongs(row)
    ]


def number_images(captions: Sequence[RetrievalCaption]) -> tuple[list[str], Array]:
    """Numbers the images of captions, in the order in which the captions name them first.

    Returns:
        The ids of the images, and int64 [captions] with the number of each caption's image.
    """
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(caption.image_id, len(numbers)) for caption in captions]
    return list(numbers), np.array(own, np.int64)
