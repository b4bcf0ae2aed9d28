"""The ids of images and captions, as sources give them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from parsers.command import InputError
from shards.schema import Array
from shards.storage.files import AnyPath

_DECIMAL = re.compile(r"-?\d{1,20}\.\d+")
"""A whole number becomes "285.0" where a table once held it beside empty cells."""
_EXACT = 2**53
"""Below this, a float holds every whole number."""


def read_id(value: object, name: str = "image_id") -> str:
    """Returns an id as text.

    Text stays as it is, bytes are UTF-8, and a whole number, even as a float, is written in decimal digits. An array or
    list of one element stands for the element.

    Raises:
        ValueError: the value is no id.
    """
    if not isinstance(value, str | int):
        value = _unwrap(value)
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not UTF-8") from None
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value == value:  # NaN is how tables of floats hold nothing
        if not value.is_integer() or abs(value) > _EXACT:
            raise ValueError(f"{name} is {value!r}, not a name")
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"no {name}")
    return str(value)


def _unwrap(value: object) -> object:
    """Returns the element of an array or list of one, and Python's value for NumPy's; anything else as it is."""
    convert = getattr(value, "tolist", None)  # NumPy's arrays and numbers have it
    if convert is not None:
        value = convert()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value


def text_of_id(value: object) -> str | None:
    """Returns an id as `read_id` does, or None if the value is no id."""
    try:
        return read_id(value)
    except ValueError:
        return None


def is_unicode(text: str) -> bool:
    """Returns whether the text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_shared_images(
    what: str, folders: Sequence[AnyPath], row_folders: Array, row_images: Array, image_ids: pa.Array
) -> None:
    """Checks that the rows of each image come from one folder.

    Args:
        what: what the rows hold, for the message.
        folders: the folders that the rows come from.
        row_folders: int64 [rows], the number of each row's folder.
        row_images: int [rows], the number of each row's image in ``image_ids``.
        image_ids: the ids of the images.

    Raises:
        InputError: two folders hold rows of the same image.
    """
    first = np.full(len(image_ids), len(folders))
    np.minimum.at(first, row_images, row_folders)
    clash = np.flatnonzero(first[row_images] != row_folders)
    if len(clash):
        image = row_images[clash[0]]
        raise InputError(
            f"image {image_ids[int(image)].as_py()!r} has {what} in {folders[first[image]]} and in "
            f"{folders[row_folders[clash[0]]]}; give one of them, or make one folder of all their sources, where "
            "repetitions are found"
        )
