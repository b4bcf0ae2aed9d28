"""Suites of pairs in their own files: a caption that is true of an image, and one that is not.

| suite | file | kind of a pair |
|---|---|---|
| SugarCrepe | JSON: by id ``filename``, ``caption``, ``negative_caption`` | the name of the file |
| ARO | JSON: a list with ``image_path``, ``bbox_x``, …, ``true_caption``, ``false_caption`` | ``relation_name`` or ``attributes`` |
| VALSE | JSON: by id ``image_file``, ``caption``, ``foil``, ``mturk`` | ``linguistic_phenomena`` |
| one's own | CSV or JSON Lines with ``image``, ``caption``, ``negative_caption``, perhaps ``kind`` | ``kind``, or the name of the file |
"""  # noqa: E501

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.tasks.checks import expect_layout, read_example_id, read_text
from parsers.command import InputError
from shards.storage.files import read_json, read_json_lines, read_text_lines

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels"""
ENDINGS = (".json", ".jsonl", ".csv")
VALID_VOTES = 2
"""How many of VALSE's three annotators must have chosen the caption alone. Its authors score no other pairs."""


@dataclass(frozen=True, slots=True)
class CaptionPair:
    """A caption that is true of an image, and a negative caption, which is not."""

    pair_id: str
    kind: str
    """what was changed in the caption"""
    image: str
    """the image as the suite names it: the name of a file, or an image id"""
    caption: str
    negative_caption: str
    crop: Box | None = None
    """the part of the image that is shown; None for all of it"""

    @property
    def captions(self) -> tuple[str, str]:
        """The caption and the negative caption."""
        return self.caption, self.negative_caption


@dataclass(frozen=True, slots=True)
class Suite:
    """The pairs of a file, or of all files of a folder."""

    pairs: tuple[CaptionPair, ...]
    left_out: int
    """pairs that the authors of the suite do not score, either (VALSE)"""


def read_suite(path: Path) -> Suite:
    """Reads a suite. Its format is known by its content.

    Raises:
        InputError: a file is missing or damaged, has none of the formats, or holds no pairs.
    """
    if not path.is_dir():
        files = [path]
    elif not (files := sorted(file for file in path.iterdir() if file.suffix in ENDINGS)):
        raise InputError(f"{path}: holds no {', '.join(ENDINGS)}; name the files of a suite or their folder")
    found = [pair for file in files for pair in _read_file(file)]
    pairs = tuple(pair for pair in found if pair is not None)
    if not pairs:
        raise InputError(f"{path}: holds no pairs of captions")
    return Suite(pairs, len(found) - len(pairs))


def _read_file(path: Path) -> Iterator[CaptionPair | None]:
    """Yields the pairs of a file; None is a pair that is not scored."""
    if path.suffix == ".csv":
        yield from _read_rows(path, _read_csv(path))
    elif path.suffix == ".jsonl":
        yield from _read_rows(path, enumerate(read_json_lines(path), 1))
    else:
        content = read_json(path)
        with expect_layout(path, "a suite in the layout of SugarCrepe, ARO or VALSE"):
            if isinstance(content, list):
                yield from (_read_aro(str(number), row) for number, row in enumerate(content))
            else:
                for pair_id, row in content.items():
                    yield _read_valse(pair_id, row) if "mturk" in row else _read_sugar_crepe(path, pair_id, row)


def _read_sugar_crepe(path: Path, pair_id: str, row: Mapping[str, Any]) -> CaptionPair:
    return _make_pair(pair_id, path.stem, row["filename"], row["caption"], row["negative_caption"])


def _read_aro(pair_id: str, row: Mapping[str, Any]) -> CaptionPair:
    """ARO shows the part of the image around both objects."""
    kind = row["relation_name"] if "relation_name" in row else "_".join(map(read_text, row["attributes"]))
    x, y, width, height = (float(row[f"bbox_{side}"]) for side in "xywh")
    if not (width > 0 and height > 0):
        raise ValueError(f"the part of the image is {width} x {height} pixels")
    crop = x, y, x + width, y + height
    return _make_pair(pair_id, kind, row["image_path"], row["true_caption"], row["false_caption"], crop)


def _read_valse(pair_id: str, row: Mapping[str, Any]) -> CaptionPair | None:
    """Where VALSE has several captions or foils, its authors take the first."""
    if int(row["mturk"]["caption"]) < VALID_VOTES:
        return None
    foil = row["foil"] if "foil" in row else row["foils"]
    caption, negative = (text[0] if isinstance(text, list) else text for text in (row["caption"], foil))
    return _make_pair(pair_id, row["linguistic_phenomena"], row["image_file"], caption, negative)


def _make_pair(
    pair_id: str, kind: object, image: object, caption: object, negative_caption: object, crop: Box | None = None
) -> CaptionPair:
    """Raises ValueError if one of the values is no text. Only an image may be named by a number."""
    caption, negative_caption = read_text(caption), read_text(negative_caption)
    return CaptionPair(pair_id, read_text(kind), read_example_id(image), caption, negative_caption, crop)


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the rows with the numbers of their last lines."""
    lines = [f"{line}\n" for line in read_text_lines(path)]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")  # a mark that spreadsheets write
    rows = csv.DictReader(lines, strict=True)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: is no CSV: {error}") from error


def _read_rows(path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]]) -> Iterator[CaptionPair]:
    for number, row in rows:
        with expect_layout(path, f"a table of image, caption and negative_caption (line {number})"):
            kind = row.get("kind") or path.stem
            yield _make_pair(str(number), kind, row["image"], row["caption"], row["negative_caption"])
