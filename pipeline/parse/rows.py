"""The rows that readers of captions yield, and the lines that they are made of."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from pipeline.text_files import MAX_LINE, open_text, read_bounded_lines
from shards.pictures import image_id_of_file
from shards.storage.files import AnyPath


@dataclass(frozen=True, slots=True)
class RawRow:
    """What a source says of a caption, before it is checked."""

    position: str
    image_id: object
    caption_id: object
    caption: object
    """a text, or a list of texts, each of which is a caption"""
    segments: tuple[int, ...] = ()
    """the characters where the second and further segments of the caption begin"""
    is_key: bool = False
    """whether the image id is the key of a tar's sample, which other tars may have as well"""
    split: str | None = None
    """the split of a benchmark that the image belongs to, if the source names it"""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that a reader cannot make sense of."""

    position: str
    reason: str


RawRows = Iterator[RawRow | BadRow]
Columns = Mapping[str, str]
"""The names that a source has for the columns ``image_id``, ``caption_id`` and ``caption``, if they differ."""
FILE_COLUMNS = ("file", "filename", "file_name", "image")
"""Columns with the name of the picture's file, which stands for the image id where there is no ``image_id``."""
IMG2DATASET_COLUMNS = ("url", "key", "status")
"""Columns of the tables that img2dataset writes beside its tars. Captions and pictures join by the URL."""
TOO_LONG = f"a line of more than {MAX_LINE:,} bytes"


def list_lines(path: AnyPath) -> Iterator[tuple[str, str | BadRow]]:
    """Yields the position and the text of each line of UTF-8, without its end."""
    with open_text(path) as stream:
        for number, raw in enumerate(read_bounded_lines(stream.readline, b"\n"), 1):
            position = f"line {number}"
            try:
                yield position, BadRow(position, TOO_LONG) if raw is None else raw.rstrip(b"\r\n").decode()
            except UnicodeDecodeError:
                yield position, BadRow(position, "invalid UTF-8")


def find_image_column(names: Container[str], columns: Columns) -> str:
    """Returns the name of the column that says which image a row is about, whether or not there is such a column."""
    if "image_id" in columns:
        return columns["image_id"]
    found = next((name for name in ("image_id", *FILE_COLUMNS) if name in names), None)
    if found is None and all(name in names for name in IMG2DATASET_COLUMNS):
        return "url"
    return found or "image_id"


def pick(position: str, row: Mapping[str, object], columns: Columns) -> RawRow:
    """Returns the row of a table or a record, given what its columns are called.

    A column of `FILE_COLUMNS` gives the image id that `pipeline.extract` gives the file.
    """
    name = find_image_column(row, columns)
    image_id = row.get(name)
    if name in FILE_COLUMNS and "image_id" not in columns and isinstance(image_id, str):
        image_id = image_id_of_file(image_id.strip(), "auto")
    caption_id, caption = (row.get(columns.get(column, column)) for column in ("caption_id", "caption"))
    return RawRow(position, image_id, caption_id, caption)
