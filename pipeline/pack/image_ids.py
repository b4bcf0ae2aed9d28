"""Image ids: the lists and maps of them that users give, and the rule that an image lies in one folder only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from parsers.command import InputError
from shards.schema import Array
from shards.storage.files import AnyPath, read_lines
from shards.storage.parquet import parquet_file


def read_id_map(path: AnyPath) -> dict[str, str]:
    """Reads the columns ``from`` and ``to`` of a Parquet file as a mapping.

    Raises:
        InputError: the file is not such a table, or an id occurs twice in a column.
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
    """Reads lists of image ids, one id a line; returns the ids of each file by its path."""
    return {str(path): frozenset(filter(None, map(str.strip, read_lines(path)))) for path in paths}


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
            f"{folders[row_folders[clash[0]]]}; give one of them"
        )
