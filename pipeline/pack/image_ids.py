"""Image ids: the lists and maps of them that users give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from parsers.command import InputError
from pipeline.ids import text_of_id
from shards.pictures import image_id_of_file as name_of_picture
from shards.storage.files import AnyPath, read_text_lines
from shards.storage.parquet import parquet_file


def read_id_map(path: AnyPath) -> dict[str, str]:
    """Reads the columns ``from`` and ``to`` of a Parquet file as a mapping.

    Raises:
        InputError: the file is not such a table, or an id occurs twice in a column.
    """
    try:
        table = parquet_file(path).read(["from", "to"])
        old, new = (table[name].cast(pa.string()).to_pylist() for name in ("from", "to"))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise InputError(f"{path}: is no Parquet file with the columns `from` and `to`: {error}") from error
    for name, values in (("from", old), ("to", new)):
        seen: set[str | None] = {None}
        for value in values:
            if value in seen:
                raise InputError(f"{path}: the id {value!r} occurs twice (or is null) in the column `{name}`")
            seen.add(value)
    return dict(zip(old, new, strict=True))


def read_id_lists(paths: Sequence[AnyPath]) -> dict[str, frozenset[str]]:
    """Reads lists of image ids, one id a line or a JSON array; returns the ids of each file by its path.

    Raises:
        InputError: a file is JSON, but no array of texts and whole numbers.
    """
    return {str(path): frozenset(_read_id_list(path)) for path in paths}


def _read_id_list(path: AnyPath) -> Iterator[str]:
    lines = [line.removeprefix("\ufeff").strip() for line in read_text_lines(path)]
    text = "".join(lines)
    if not text.startswith(("[", "{")):
        yield from filter(None, lines)
        return
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: begins as JSON does but cannot be read: {error}") from error
    for value in values if isinstance(values, list) else [None]:
        image_id = text_of_id(value)
        if image_id is None:
            raise InputError(f"{path}: is no JSON array of image ids; give an array of texts and whole numbers")
        yield image_id


def coco_number(image_id: str) -> str:
    """Returns the number in COCO's name of a picture or in digits that begin with zeros, and any other id as it is.

    For example, ``COCO_val2014_000000000042.jpg``, ``COCO_val2014_000000000042`` and ``000000000042`` become ``42``.
    """
    if "/" in image_id:
        return image_id
    short = name_of_picture(image_id, "auto")
    return str(int(short)) if short.isdecimal() and short.isascii() and len(short) <= 18 else image_id


def with_coco_numbers(image_ids: Iterable[str]) -> set[str]:
    """Returns what the entries of a list of images may mean: each as it is written, and the number in COCO's names."""
    return {spelling for image_id in image_ids for spelling in (image_id, coco_number(image_id))}


def count_matches(lists: Mapping[str, frozenset[str]], *known: pa.Array) -> dict[str, int]:
    """Counts the ids of each list that name an image.

    Args:
        lists: ids by the path of their list.
        known: large strings, the ids of all images.
    """
    spellings = sorted(with_coco_numbers(frozenset().union(*lists.values())))
    column = pa.array(spellings, pa.large_string())
    found = np.zeros(len(column), bool)
    for image_ids in known:
        found |= pc.is_in(column, value_set=image_ids).to_numpy(zero_copy_only=False)
    there = {spelling for spelling, is_there in zip(spellings, found, strict=True) if is_there}
    return {path: sum(not there.isdisjoint((i, coco_number(i))) for i in ids) for path, ids in lists.items()}
