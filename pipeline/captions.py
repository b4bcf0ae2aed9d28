"""Reads captions from the formats in which they are published.

A reader yields a `CaptionRow` or a `Reject` for every row of its source: what goes in is accounted for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.executor import Reject
from shards.errors import InputError

MAX_WORDS = 512


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption and where it came from."""

    source: str
    position: str
    image_id: str
    caption_id: str | None
    caption: str


Rows = Iterator[CaptionRow | Reject]


def read(path: Path, format: str) -> Rows:
    """The rows of a captions file in one of `FORMATS`.

    Raises:
        InputError: the file as a whole is not of this format.
    """
    return FORMATS[format](path)


def recognise(path: Path) -> tuple[str, str]:
    """(format, why) of a captions file.

    Raises:
        InputError: it is in no format that we know.
    """
    try:
        with path.open("rb") as stream:
            line = stream.readline(1 << 16)
            start = (line + stream.read(4096)).lstrip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise InputError(f"{path}: is empty")
    if start.startswith(b"{"):
        if b'"caption"' in line and line.rstrip().endswith(b"}") and b'"annotations"' not in line:
            return "jsonl", "each line is a JSON object with a caption"
        return "coco", "one JSON object"
    columns = line.rstrip(b"\r\n").split(b"\t")
    if len(columns) == 2 and b"://" in columns[1]:
        return "conceptual-captions", "two columns, the second a URL"
    raise InputError(f"{path}: format not recognised; name it with --format ({', '.join(FORMATS)})")


def _make_row(path: Path, position: str, image_id: Any, caption_id: Any, caption: Any) -> CaptionRow | Reject:
    """Checks a row. Ids are strings taken as they are; numbers become their decimal text."""

    def reject(reason: str) -> Reject:
        return Reject(str(path), position, reason)

    for name, value in (("image_id", image_id), ("caption_id", caption_id)):
        if value is None and name == "caption_id":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            return reject(f"no {name}")
    if not isinstance(caption, str):
        return reject("no caption")
    caption = caption.strip()
    if not caption:
        return reject("empty caption")
    if len(caption.split()) > MAX_WORDS:
        return reject(f"caption of more than {MAX_WORDS} words")
    try:
        f"{image_id}{caption_id}{caption}".encode()
    except UnicodeEncodeError:
        return reject("not valid Unicode (a lone surrogate)")
    return CaptionRow(str(path), position, str(image_id), None if caption_id is None else str(caption_id), caption)


def read_coco(path: Path) -> Rows:
    """COCO captions JSON: ``annotations`` of {image_id, id, caption}."""
    try:
        document = json.loads(path.read_bytes())
        annotations = document["annotations"]
        rows = list(enumerate(annotations))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    except (KeyError, TypeError):
        raise InputError(f"{path}: has no list `annotations`, so it is no COCO captions file") from None
    for number, annotation in rows:
        position = f"annotations[{number}]"
        if not isinstance(annotation, dict):
            yield Reject(str(path), position, "not a JSON object")
            continue
        yield _make_row(path, position, annotation.get("image_id"), annotation.get("id"), annotation.get("caption"))


def read_conceptual_captions(path: Path) -> Rows:
    """Conceptual Captions TSV: caption TAB image URL, no header. The URL is the image id."""
    for position, line in _lines(path):
        if isinstance(line, Reject):
            yield line
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            yield Reject(str(path), position, f"{len(columns)} columns, expected caption and URL")
            continue
        yield _make_row(path, position, columns[1].strip(), None, columns[0])


def read_jsonl(path: Path) -> Rows:
    """JSON lines: {"image_id": ..., "caption_id": ..., "caption": ...}; caption_id may be missing."""
    for position, line in _lines(path):
        if isinstance(line, Reject):
            yield line
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield Reject(str(path), position, f"not JSON ({type(error).__name__})")
            continue
        if not isinstance(row, dict):
            yield Reject(str(path), position, "not a JSON object")
            continue
        yield _make_row(path, position, row.get("image_id"), row.get("caption_id"), row.get("caption"))


def _lines(path: Path) -> Iterator[tuple[str, str | Reject]]:
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            position = f"line {number}"
            try:
                yield position, raw.rstrip(b"\r\n").decode()
            except UnicodeDecodeError:
                yield position, Reject(str(path), position, "invalid UTF-8")


FORMATS: dict[str, Callable[[Path], Rows]] = {
    "coco": read_coco,
    "conceptual-captions": read_conceptual_captions,
    "jsonl": read_jsonl,
}
