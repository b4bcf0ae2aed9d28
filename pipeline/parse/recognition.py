"""Which of `pipeline.parse.formats.FORMATS` a captions file has."""

from __future__ import annotations

import json
from typing import BinaryIO

import ijson

from parsers.command import InputError
from pipeline.files import check_regular
from pipeline.parse.formats import FORMATS
from pipeline.parse.rows import Columns
from pipeline.parse.tables import is_url, names_pairs
from pipeline.text_files import MAX_LINE, open_json, open_text
from shards.storage.files import AnyPath

_EVENTS = 100_000
"""how many tokens of a JSON file are looked at"""


def recognise_captions(path: AnyPath, columns: Columns | None = None) -> tuple[str, str]:
    """Returns the format of a captions file, and how it was recognised.

    Raises:
        InputError: the file cannot be read, is empty, or has none of the known formats.
    """
    try:
        check_regular(path)
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(b"PAR1"):
        return "parquet", "it begins as Parquet does"
    if _is_tar(start):
        return "webdataset", "a tar"
    with open_text(path) as stream:
        line = _find_line(stream)
        if not line:
            raise InputError(f"{path}: is empty")
        if _is_tar(line + stream.read(512)):
            raise InputError(f"{path}: is a compressed tar; decompress it, so that its members can be found")
    caption = (columns or {}).get("caption", "caption")
    found = _recognise_json(path, line, caption) if line[:1] in b"{[" else _recognise_table(line, caption)
    if found is None:
        raise InputError(
            f"{path}: format not recognised; a table needs a header with the column {caption!r}, or --columns "
            f"caption=NAME (formats are {', '.join(FORMATS)})"
        )
    return found


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _find_line(stream: BinaryIO) -> bytes:
    """Returns the first line that is not blank, or its first `MAX_LINE` bytes; it is empty if there is none."""
    while line := stream.readline(MAX_LINE):
        if line.strip():
            return line.lstrip()
    return b""


def _recognise_json(path: AnyPath, line: bytes, caption: str) -> tuple[str, str] | None:
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):  # the first line is no value of its own, so the file is one
        first = None
    if isinstance(first, dict) and not _has_rows(first.get("annotations"), "caption"):
        if {"answer_choices", "question"} <= first.keys():
            return "vcr", "each line is a JSON object with a question and choices"
        if caption in first:
            return "jsonl", f"each line is a JSON object with {caption!r}"
    return _recognise_document(path)


def _has_rows(value: object, key: str) -> bool:
    return isinstance(value, list) and any(isinstance(row, dict) and key in row for row in value[:1])


def _recognise_document(path: AnyPath) -> tuple[str, str] | None:
    """Returns the format of a file that is one JSON value, given its first tokens."""
    with open_json(path) as stream:
        for number, (prefix, event, value) in enumerate(ijson.parse(stream, use_float=True)):
            if number == 0 and event == "start_array":
                return "json", "an array of JSON objects"
            if prefix == "images.item" and value in ("sentences", "sentids"):
                return "karpathy", "one JSON object whose images have sentences"
            if number == 0 and event != "start_map":
                return None
            if number == _EVENTS or (prefix == "" and value == "annotations"):
                break
    return "coco", "one JSON object"


def _recognise_table(line: bytes, caption: str) -> tuple[str, str] | None:
    text = line.rstrip(b"\r\n").decode("utf-8", "replace")
    fields = text.split("\t")
    pairs = len(fields) in (2, 5)
    if pairs and names_pairs(fields) and caption == "caption":
        caption_first = fields[0].strip().lower() == "caption"
    elif caption in fields:
        return "tsv", f"tab-separated columns under a header with {caption!r}"
    elif caption in [field.strip('"') for field in text.split(",")]:
        return "csv", f"comma-separated columns under a header with {caption!r}"
    elif pairs and is_url(fields[1]):
        caption_first = True
    elif pairs and is_url(fields[0]):
        caption_first = False
    else:
        return None
    if caption_first:
        return "conceptual-captions", "a caption and its URL on each line"
    return "conceptual-12m", "a URL and its caption on each line"
