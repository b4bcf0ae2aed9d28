"""Scores pictures and texts with a version of a project. One model is in memory, the one that was used last."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from matcher.detection import detect
from matcher.scorer import Matcher
from matcher.serve.worker.drawing import DrawnCaption, draw_captions, draw_row, name_regions, open_store
from parsers.command import InputError
from shards.inspect.page import embed_picture
from shards.pictures import open_picture
from shards.regions.detector import DetectorRecord
from shards.regions.table import RegionsRow
from shards.schema import Array, Regions

MOST_COMPARED = 1_000
"""A search compares with so many pictures or texts, at most."""
_AT_ONCE = 256
"""pictures whose regions are in memory together"""


@dataclass(frozen=True)
class Photo:
    """A picture that is to be scored: one of the version's, or the bytes of a file."""

    image_id: str | None = None
    data: bytes = b""


@dataclass(frozen=True)
class Question:
    """A picture and texts that may fit it."""

    photo: Photo
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """Why a question has no answer."""

    reason: str
    is_missing_detector: bool


class MissingDetectorError(InputError):
    """New pictures cannot be scored, because their regions cannot be found here."""


@dataclass(frozen=True)
class Explanation:
    """Which regions a score comes from, and how the text was understood."""

    score: float
    caption: DrawnCaption
    picture: str
    """SVG; each region has the number by which the score falls without it"""


@dataclass(frozen=True)
class ModelFiles:
    """What a version is scored with."""

    matcher: Path
    """what `matcher.train` wrote"""
    regions: Path
    """the regions that it learned from"""


def score(files: ModelFiles, questions: Sequence[Question]) -> list[list[float] | Refusal]:
    """Answers questions together.

    Returns:
        For each question the log-odds of its texts, or why there are none.
    """
    model = _load(files)
    answers: list[list[float] | Refusal] = []
    rows: list[RegionsRow] = []
    texts: list[str] = []
    pairs: list[tuple[int, int]] = []
    ends: list[int] = []
    for question in questions:
        try:
            rows.append(model.find(question.photo))
        except InputError as error:
            answers.append(Refusal(str(error), isinstance(error, MissingDetectorError)))
            continue
        pairs += [(len(texts) + number, len(rows) - 1) for number in range(len(question.texts))]
        texts += question.texts
        ends.append(len(texts))
        answers.append([])
    scores = iter(model.matcher.model.score_pairs(texts, rows, np.array(pairs, np.int64).reshape(-1, 2)).tolist())
    return [
        answer if isinstance(answer, Refusal) else [next(scores) for _ in question.texts]
        for question, answer in zip(questions, answers, strict=True)
    ]


def search(files: ModelFiles, text: str, image_ids: Sequence[str]) -> list[tuple[str, float]]:
    """Returns pictures of the version with their scores, the best one first. Those without regions are left out."""
    model = _load(files)
    store = open_store(files.regions)
    known = [image_id for image_id in image_ids if image_id in store][:MOST_COMPARED]
    found: list[tuple[str, float]] = []
    for start in range(0, len(known), _AT_ONCE):
        part = known[start : start + _AT_ONCE]
        scores = model.matcher.model.score([text], [store[image_id] for image_id in part])[0].tolist()
        found += zip(part, scores, strict=True)
    return sorted(found, key=lambda item: -item[1])


def rank_texts(files: ModelFiles, photo: Photo, texts: Sequence[str]) -> list[tuple[str, float]]:
    """Returns texts with their scores, the best one first."""
    model = _load(files)
    compared = list(texts[:MOST_COMPARED])
    scores = model.matcher.model.score(compared, [model.find(photo)])[:, 0].tolist()
    return sorted(zip(compared, scores, strict=True), key=lambda item: -item[1])


def explain(files: ModelFiles, photo: Photo, text: str, address: str) -> Explanation:
    """Scores a text with a picture, and again without each of its regions.

    Args:
        files: the version.
        photo: the picture.
        text: the text.
        address: where a browser finds the picture, if it is one of the version's.
    """
    model = _load(files)
    row = model.find(photo)
    count = len(row.regions.boxes)
    without = [_leave_out(row, number) for number in range(count)] if count > 1 else []
    scores: Array = model.matcher.model.score([text], [row, *without])[0]
    falls = (scores[0] - scores[1:]).tolist() if without else [0.0] * count
    names = [name for name, _ in name_regions(files.regions, row)] or [f"region {n}" for n in range(1, count + 1)]
    shown = address if photo.image_id is not None else embed_picture(photo.data)
    drawn = draw_row(row, list(zip(names, falls, strict=True)), shown)
    return Explanation(float(scores[0]), draw_captions([text])[0], drawn)


def describe_detector(files: ModelFiles) -> DetectorRecord:
    """Returns the detector that the version was trained with, as far as it is known."""
    return _load(files).trained_on


class _Model:
    """A matcher with the regions of its own pictures."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self.trained_on = DetectorRecord.load(files.matcher) or DetectorRecord(feature_size=0)
        given = files.regions if self.trained_on.detector is None else None
        self.matcher = Matcher(files.matcher, regions=given)

    def find(self, photo: Photo) -> RegionsRow:
        """Returns the regions of a picture.

        Raises:
            InputError: it is no picture, there are no regions of it, or nobody knows how to find them.
        """
        if photo.image_id is not None:
            store = open_store(self._files.regions)
            if photo.image_id not in store:
                raise InputError(f"there are no regions of the picture {photo.image_id}")
            return store[photo.image_id]
        if self.trained_on.detector is None:
            raise MissingDetectorError(
                "this model was trained on regions that came as files, and it is not known which detector found them "
                f"({self.trained_on.feature_size:,} numbers describe a region); send the image_id of a picture of the "
                "project, or train a version whose regions are found by a detector"
            )
        try:
            open_picture(photo.data)
        except ValueError as error:
            raise InputError(f"the picture cannot be used: {error}") from error
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(photo.data)
            file.flush()
            try:
                return detect(Path(file.name), self.matcher.detector)
            except InputError as error:
                raise _name_fault(error, file.name, self.trained_on) from error


def _name_fault(error: InputError, path: str, trained_on: DetectorRecord) -> InputError:
    """Returns an error without the path of a temporary file; a detector that cannot be had is said to be missing."""
    text = str(error)
    if text.startswith(f"{path}: "):
        return InputError(f"the picture cannot be used: {text.removeprefix(f'{path}: ')}")
    name = "the detector" if trained_on.detector is None else f"the detector {trained_on.detector.name}"
    return MissingDetectorError(f"{name} is missing on this machine: {text}")


@lru_cache(maxsize=1)
def _load(files: ModelFiles) -> _Model:
    return _Model(files)


def _leave_out(row: RegionsRow, number: int) -> RegionsRow:
    """Returns a picture without one of its regions."""
    kept = np.arange(len(row.regions.boxes)) != number
    regions = Regions(row.regions.boxes[kept], row.regions.features[kept])
    return RegionsRow(row.image_id, row.width, row.height, regions)
