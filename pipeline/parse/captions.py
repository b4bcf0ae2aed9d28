"""Captions as the parser takes them, read from any of `pipeline.parse.formats.FORMATS`.

Every row of a source becomes a `CaptionRow` or a `Reject`, so that nothing is lost unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.ids import is_unicode, text_of_id
from pipeline.parse.formats import FORMATS, BadRow, Columns, RawRow
from shards.storage.files import AnyPath

MAX_WORDS = 512
"""the longest caption that is taken"""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""This finds bytes that were not UTF-8, which Python's ``surrogateescape`` keeps as lone surrogates."""


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption and where it came from."""

    source: str
    position: str
    image_id: str
    caption_id: str | None
    caption: str
    segments: tuple[int, ...] = ()
    """the characters where the second and further segments of the caption begin"""


CaptionRows = Iterator[CaptionRow | Reject]


def read(path: AnyPath, format: str, columns: Columns | None = None) -> CaptionRows:
    """Reads the rows of a captions file in one of `FORMATS`.

    Raises:
        InputError: the file as a whole is not of this format.
    """
    source = str(path)
    for row in FORMATS[format](path, columns or {}):
        if isinstance(row, BadRow):
            yield Reject(source, row.position, row.reason)
        else:
            yield _check(source, row)


def recognise(path: AnyPath, columns: Columns | None = None) -> tuple[str, str]:
    """Returns the format of a captions file, and how it was recognised.

    Raises:
        InputError: the file cannot be read, is empty, or has none of the known formats.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(1 << 17)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    line, start = start.split(b"\n", 1)[0], start.lstrip()
    if not start:
        raise InputError(f"{path}: is empty")
    caption = (columns or {}).get("caption", "caption")
    if start.startswith(b"PAR1"):
        return "parquet", "it begins as Parquet does"
    if start[257:262] == b"ustar":
        return "webdataset", "a tar"
    if start.startswith(b"{"):
        one_line = line.rstrip().endswith(b"}")
        if one_line and b'"answer_choices"' in line and b'"question"' in line:
            return "vcr", "each line is a JSON object with a question and choices"
        if one_line and f'"{caption}"'.encode() in line and b'"annotations"' not in line and b'"images"' not in line:
            return "jsonl", f"each line is a JSON object with {caption!r}"
        if b'"sentences"' in start or b'"sentids"' in start:
            return "karpathy", "one JSON object whose images have sentences"
        return "coco", "one JSON object"
    text = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").decode("utf-8", "replace")
    fields = text.split("\t")
    if caption in fields:
        return "tsv", f"tab-separated columns under a header with {caption!r}"
    if caption in [field.strip('"') for field in text.split(",")]:
        return "csv", f"comma-separated columns under a header with {caption!r}"
    if len(fields) == 2 and "://" in fields[1]:
        return "conceptual-captions", "two columns, the second a URL"
    raise InputError(f"{path}: format not recognised; name it with --format ({', '.join(FORMATS)})")


def _check(source: str, row: RawRow) -> CaptionRow | Reject:
    try:
        image_id = _need_id("image_id", row.image_id)
        caption_id = None if row.caption_id is None else _need_id("caption_id", row.caption_id)
        if not isinstance(row.caption, str):
            raise ValueError("no caption")
        caption = row.caption.strip()
        if not caption:
            raise ValueError("empty caption")
        if len(caption.split()) > MAX_WORDS:
            raise ValueError(f"caption of more than {MAX_WORDS} words")
        text = f"{image_id}{caption_id}{caption}"
        if not is_unicode(text):
            raise ValueError("invalid UTF-8" if _NOT_UTF8.search(text) else "not valid Unicode (a lone surrogate)")
    except ValueError as error:
        return Reject(source, row.position, str(error))
    shift = len(row.caption) - len(row.caption.lstrip())
    segments = tuple(start - shift for start in row.segments)
    return CaptionRow(source, row.position, image_id, caption_id, caption, segments)


def _need_id(name: str, value: object) -> str:
    text = text_of_id(value)
    if text is None:
        raise ValueError(f"no {name}")
    return text


def parse_columns(text: str) -> Mapping[str, str]:
    """Returns ``image_id=url,caption=text`` as a mapping.

    Raises:
        ValueError: the text is not of this form.
    """
    pairs = [part.partition("=") for part in text.split(",") if part]
    columns = {name.strip(): value.strip() for name, _, value in pairs}
    unknown = [name for name in columns if name not in ("image_id", "caption_id", "caption")]
    if unknown or not all(columns.values()):
        raise ValueError("expected NAME=COLUMN with the names image_id, caption_id and caption, separated by commas")
    return columns
