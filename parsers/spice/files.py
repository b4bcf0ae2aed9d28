"""Files of references and of candidates: which captions does each image have?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parsers.command import InputError, shorten_json

ImageCaptions = dict[str, list[str]]
"""The captions of each image, by its id as text: JSON's keys are texts, and COCO's ids are numbers."""


def read_captions(path: Path) -> ImageCaptions:
    """Reads the captions of each image, in the order of the file.

    Four layouts are known: COCO's captions (``{"annotations": [{"image_id": 7, "caption": "..."}, ...]}``), COCO's
    results (the list alone), ``{"7": ["...", ...], ...}`` and JSON lines. In records and lines, ``caption`` is one
    text, or ``captions`` is a list; an image may occur several times.

    Raises:
        InputError: the file cannot be read, or has another layout; the message names the record or the line.
    """
    captions: ImageCaptions = {}
    for place, image, texts in _read_records(path):
        # Python's bool is an int, but true and false are no ids.
        if not isinstance(image, str | int) or isinstance(image, bool):
            raise InputError(f"{place}: `image_id` is {shorten_json(image)}, expected a number or a text")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{place}: expected a caption or a list of captions, found {shorten_json(texts)}")
        captions.setdefault(str(image), []).extend(texts)
    if not captions:
        raise InputError(f"{path}: holds no captions")
    return captions


def _read_records(path: Path) -> Iterator[tuple[str, object, object]]:
    """Yields where each record is, its image's id and its captions, none of them checked."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the captions cannot be read: {error}") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                place = f"{path}:{number}"
                yield place, *_parse_record(place, _load(place, line))
        return
    data = _load(str(path), text)
    if isinstance(data, dict) and "annotations" not in data:
        for image, texts in data.items():
            yield f"{path}: image {image}", image, [texts] if isinstance(texts, str) else texts
        return
    records = data["annotations"] if isinstance(data, dict) else data
    if not isinstance(records, list):
        raise InputError(f"{path}: expected a list of records, found {shorten_json(records)}")
    for number, record in enumerate(records):
        place = f"{path}: record {number}"
        yield place, *_parse_record(place, record)


def _load(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = " (a file of JSON lines has a name that ends with .jsonl)" if "Extra data" in str(error) else ""
        raise InputError(f"{place}: is not JSON: {error}{hint}") from error


def _parse_record(place: str, record: object) -> tuple[object, object]:
    if isinstance(record, dict) and "image_id" in record:
        if "caption" in record:
            return record["image_id"], [record["caption"]]
        if "captions" in record:
            return record["image_id"], record["captions"]
    raise InputError(f"{place}: expected `image_id` and `caption` or `captions`, found {shorten_json(record)}")
