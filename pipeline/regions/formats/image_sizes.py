"""The sizes of images, for layouts whose boxes are shares of the image: UNITER's and VinVL's.

They come from COCO's JSON with ``images`` of {id, file_name, width, height}, or from VinVL's ``hw.tsv``: lines of a
key, a tab and JSON with ``height`` and ``width``. Such a file is given beside the features, as one more source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from parsers.command import InputError
from pipeline.ids import read_id, text_of_id
from pipeline.text_files import read_items
from shards.pictures import image_id_of_file
from shards.regions.tsv import parse_integer
from shards.schema import Array
from shards.storage.files import AnyPath

Sizes = dict[str, tuple[int, int]]
"""The width and the height of each image in pixels, by its id and by the name of its file without the ending."""


def is_sizes(path: AnyPath) -> bool:
    """Returns whether a source has the sizes of images instead of features, as its name says."""
    return path.suffix == ".json" or path.name.endswith("hw.tsv")


@lru_cache(maxsize=4)  # a worker reads it once, not for each partition
def read_sizes(paths: tuple[AnyPath, ...]) -> Sizes:
    """Reads the sizes of images. Memory grows by about 200 bytes with each image.

    Raises:
        InputError: a file has no such sizes.
    """
    sizes: Sizes = {}
    for path in paths:
        for name, size in _read(path):
            sizes[name] = size
    return sizes


def size_of(image_id: str, sizes: Sizes) -> tuple[int, int]:
    """Returns the width and the height of an image.

    Raises:
        ValueError: it is not known.
    """
    size = sizes.get(image_id) or sizes.get(image_id_of_file(image_id, "auto"))
    if size is None:
        raise ValueError("no size of the image is known; give COCO's JSON of the images, or hw.tsv, as one more source")
    return size


def to_pixels(shares: Array, width: int, height: int) -> Array:
    """Returns boxes in pixels, float32 [n, 4].

    Args:
        shares: float [n, 4 or more]; the first four are x1, y1, x2, y2 as shares of the image.
        width: the width of the image in pixels.
        height: its height.

    Raises:
        ValueError: a box leaves the image.
    """
    corners = shares[:, :4].astype(np.float32)
    if not ((corners >= -0.01) & (corners <= NEARLY_ONE)).all():
        raise ValueError("boxes that should be shares of the image are not within 0..1")
    pixels: Array = corners * np.array([width, height] * 2, np.float32)
    return pixels


NEARLY_ONE = 1.01


def _read(path: AnyPath) -> Iterator[tuple[str, tuple[int, int]]]:
    rows = _read_tsv(path) if path.suffix == ".tsv" else _read_coco(path)
    for position, names, value in rows:
        try:
            size = parse_integer(value.get("width"), "width"), parse_integer(value.get("height"), "height")
        except ValueError as error:
            raise InputError(f"{path}: {position}: {error}") from error
        yield from ((name, size) for name in names)


def _read_coco(path: AnyPath) -> Iterator[tuple[str, Sequence[str], dict[str, object]]]:
    for number, image in enumerate(read_items(path, "images")):
        if not isinstance(image, dict):
            raise InputError(f"{path}: images[{number}]: is no JSON object")
        name = image.get("file_name")
        stems = [image_id_of_file(name, "stem")] if isinstance(name, str) else []
        yield f"images[{number}]", list(filter(None, [text_of_id(image.get("id")), *stems])), image


def _read_tsv(path: AnyPath) -> Iterator[tuple[str, Sequence[str], dict[str, object]]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            key, _, text = line.partition(b"\t")
            try:
                value = json.loads(text)
                value = value[0] if isinstance(value, list) and len(value) == 1 else value
                if not isinstance(value, dict):
                    raise ValueError("no JSON object behind the tab")
                name = read_id(key)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: line {number}: {error}") from error
            yield f"line {number}", [name], value
