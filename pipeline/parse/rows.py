"""The rows that readers of captions yield, and the lines that they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.text_files import MAX_LINE, open_text, read_bounded_lines
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


def pick(position: str, row: Mapping[str, object], columns: Columns) -> RawRow:
    """Returns the row of a table or a record, given what its columns are called."""
    image_id, caption_id, caption = (row.get(columns.get(name, name)) for name in ("image_id", "caption_id", "caption"))
    return RawRow(position, image_id, caption_id, caption)
