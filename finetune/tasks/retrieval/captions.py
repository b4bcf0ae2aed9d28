"""The captions of a split and the numbers of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.released.tsv import is_released, parse_lines
from finetune.tasks.checks import expect_layout, read_example_id, read_text
from parsers.command import InputError
from shards.regions.tsv import Fields
from shards.schema import Array
from shards.storage.files import read_json

COLUMNS = ("image_id", "caption_id", "caption")
"""The columns of a released file of captions."""


@dataclass(frozen=True, slots=True)
class RetrievalCaption:
    """A caption of an image."""

    caption_id: str
    image_id: str
    text: str


def read_captions(data: Path, split: str) -> list[RetrievalCaption]:
    """Reads a split of Karpathy's ``dataset_*.json`` in a folder, or a released file of captions.

    In Karpathy's file an image id is the image's COCO id, or its file name without the extension if it has none.

    Raises:
        InputError: the file is missing or damaged, has no such split, or has two captions with the same id.
    """
    if is_released(split):
        captions = parse_lines(data / split, COLUMNS, _parse_released)
    else:
        captions = _read_karpathy(data, split)
    if len({caption.caption_id for caption in captions}) < len(captions):
        raise InputError(f"{data}: captions of {split} share an id; each needs its own")
    return captions


def _parse_released(_: str, fields: Fields) -> RetrievalCaption:
    return RetrievalCaption(fields["caption_id"], fields["image_id"], fields["caption"])


def _read_karpathy(data: Path, split: str) -> list[RetrievalCaption]:
    paths = sorted(data.glob("dataset_*.json"))
    if len(paths) != 1:
        raise InputError(f"{data}: holds {len(paths)} files dataset_*.json, but needs one (Karpathy's splits)")
    (path,) = paths
    captions, splits = list[RetrievalCaption](), set[str]()
    with expect_layout(path, "a file of Karpathy's layout"):
        for image in read_json(path)["images"]:
            splits.add(read_text(image["split"]))
            if image["split"] == split:
                image_id = (
                    read_example_id(image["cocoid"]) if "cocoid" in image else Path(read_text(image["filename"])).stem
                )
                captions += [
                    RetrievalCaption(read_example_id(s["sentid"]), image_id, read_text(s["raw"]))
                    for s in image["sentences"]
                ]
    if split not in splits:
        raise InputError(f"{path}: has no split {split!r}, only {', '.join(sorted(splits))}")
    return captions


def number_images(captions: Sequence[RetrievalCaption]) -> tuple[list[str], Array]:
    """Numbers the images of captions, in the order in which the captions name them first.

    Returns:
        The ids of the images, and int64 [captions] with the number of each caption's image.
    """
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(caption.image_id, len(numbers)) for caption in captions]
    return list(numbers), np.array(own, np.int64)
