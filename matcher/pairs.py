"""Photos and captions that belong together, and the file in which all later parts read them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from parsers.command import InputError, say
from pipeline.execution.parts import Reject
from pipeline.extract.images import recognise_pictures
from pipeline.files import expand, location
from pipeline.parse import captions
from pipeline.parse.captions import CaptionRow
from pipeline.parse.recognition import recognise_captions
from pipeline.parse.rows import Columns
from pipeline.parse.stage import TEST
from shards.pictures import image_id_of_file
from shards.storage.files import write_atomic

PAIRS = "dataset_own.json"
"""Karpathy's layout, which `pipeline.parse` and `finetune` read."""
TRAIN, HELD_OUT = "train", "val"
_SHOWN = 3


@dataclass(frozen=True)
class OwnData:
    """Photos with their captions, and all that is left out."""

    photos: Mapping[str, str]
    """by image id, the path of each photo that has captions, below the folder"""
    captions: Mapping[str, list[str]]
    """by image id, in the order of the files"""
    left_out: list[str] = field(default_factory=list)
    """what was not used and why, one a line"""

    @property
    def caption_count(self) -> int:
        """The number of captions."""
        return sum(map(len, self.captions.values()))

    def keep(self, image_ids: Container[str], reason: str) -> OwnData:
        """Returns the photos of some image ids; the others are left out for a reason."""
        kept = [image_id for image_id in self.photos if image_id in image_ids]
        lost = [f"{name}: {reason}" for image_id, name in self.photos.items() if image_id not in image_ids]
        return OwnData(
            {image_id: self.photos[image_id] for image_id in kept},
            {image_id: self.captions[image_id] for image_id in kept},
            [*self.left_out, *lost],
        )


def read_own_data(folder: Path, source: str, columns: Columns) -> OwnData:
    """Reads photos and captions, and pairs them by image id.

    Args:
        folder: the photos.
        source: a file of captions, or a pattern of several, in any format of `pipeline.parse`.
        columns: what the columns of a table are called.

    Raises:
        InputError: there are no photos or no captions, or none belong together.
    """
    names, damaged = list_photos(folder)
    found: dict[str, dict[str, None]] = {}
    strangers: dict[str, None] = {}
    rejects: list[Reject] = []
    for row in _read_captions(source, columns):
        if isinstance(row, Reject):
            rejects.append(row)
        elif (image_id := _find_photo(row.image_id, names)) is None:
            strangers[row.image_id] = None
        else:
            found.setdefault(image_id, {})[row.caption] = None
    if not found:
        raise InputError(
            f"no caption of {source} is of a photo in {folder}: captions are of {_some(strangers)}, and photos are "
            f"{_some(names)}; a caption names its photo's file, or its image id"
        )
    photos = {image_id: name for image_id, name in names.items() if image_id in found}
    left_out = [
        *(f"{reject.source}, {reject.position}: {reject.reason}" for reject in (*damaged, *rejects)),
        *(f"{name}: a photo without a caption" for image_id, name in names.items() if image_id not in found),
        *(f"{image_id}: captions without a photo" for image_id in strangers),
    ]
    return OwnData(photos, {image_id: list(found[image_id]) for image_id in photos}, left_out)


def list_photos(folder: Path) -> tuple[dict[str, str], list[Reject]]:
    """Returns the path of each photo below the folder by image id, and what cannot be a photo."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder of photos")
    names, rejects = dict[str, str](), list[Reject]()
    for found in recognise_pictures(location(folder), "auto", None)[0].sources():
        if isinstance(found, Reject):
            rejects.append(found)
        elif found.size >= 0:
            raise InputError(f"{found.path}: is a tar; unpack it, photos are files of a folder")
        elif found.image_id in names:
            rejects.append(found.reject(f"its image id {found.image_id} is that of {names[found.image_id]}, too"))
        else:
            names[found.image_id] = Path(str(found.path)).relative_to(folder).as_posix()
    return names, rejects


def _read_captions(source: str, columns: Columns) -> Iterator[CaptionRow | Reject]:
    for path in expand([source]):
        format, why = recognise_captions(path, columns)
        say(f"{path}: {format} ({why})")
        for row in captions.read(path, format, columns):
            if isinstance(row, CaptionRow) and row.split == TEST:
                yield Reject(row.source, row.position, "of the benchmark's test split")
            else:
                yield row


def _find_photo(image_id: str, names: Container[str]) -> str | None:
    """Returns the image id of the photo that a caption is of; the caption may name the file."""
    return next((name for name in (image_id, image_id_of_file(image_id, "auto")) if name in names), None)


def _some(names: Iterable[str]) -> str:
    shown = [*names]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "") or "nothing"


# --------------------------------------------------------------------------------------------------------------- split


def write_pairs(data: OwnData, held_out: Container[str], path: Path) -> None:
    """Writes the captions of all photos with their split, in Karpathy's layout."""
    numbers = iter(range(data.caption_count))
    images = [
        {
            "filename": name,
            "cocoid": image_id,
            "split": HELD_OUT if image_id in held_out else TRAIN,
            "sentences": [{"sentid": next(numbers), "raw": text} for text in data.captions[image_id]],
        }
        for image_id, name in data.photos.items()
    ]
    _write_once({"dataset": "own", "images": images}, path)


def write_photo_list(data: OwnData, path: Path) -> None:
    """Writes the photos as a list that `pipeline.extract` reads."""
    _write_once({"images": [{"id": image_id, "file_name": name} for image_id, name in data.photos.items()]}, path)


def _write_once(value: object, path: Path) -> None:
    """Writes JSON, unless the file holds it already: a stage takes a file that is written again for another one."""
    data = orjson.dumps(value)
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)
