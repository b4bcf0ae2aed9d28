"""The files of VCR: the questions, the leaderboard's file of predictions, and the names that people are given."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypedDict

from finetune.inputs import RegionSource
from finetune.tasks.checks import expect_layout, read_example_id, read_integer, read_text
from parsers.command import InputError
from shards.regions.table import RegionsRow
from shards.storage.files import read_json_lines, write_atomic
from shards.vcr_text import Word, check_words, question_number

SPLITS = ("train", "val", "test")
CHOICES = 4
ANSWER: Final = "answer"
RATIONALE: Final = "rationale"
VcrPart = Literal["answer", "rationale"]
_GIVEN = (None, *range(CHOICES))
"""The choices of a question: of the answer (None), and of a rationale for each answer (its number)."""


def _name_column(given: int | None, choice: int) -> str:
    return f"{'answer' if given is None else f'rationale_conditioned_on_a{given}'}_{choice}"


LEADERBOARD = ("annot_id", *(_name_column(given, choice) for given, choice in product(_GIVEN, range(CHOICES))))
"""The columns of the leaderboard's file."""


@dataclass(frozen=True, slots=True)
class VcrQuestion:
    """A choice between four texts: the answers to a question, or the rationales of one of its answers."""

    annot_id: str
    number: int
    """the number in ``annot_id``"""
    image_id: str
    """``img_id``"""
    file: str
    """``img_fn``"""
    part: VcrPart
    objects: tuple[str, ...]
    """the class of each object that words may mean"""
    question: tuple[Word, ...]
    answer: tuple[Word, ...] | None
    """the answer that the rationale explains; None where the answer is asked for"""
    choices: tuple[tuple[Word, ...], ...]
    right: int | None
    """the right choice; None where only the leaderboard has it"""
    given: int | None = None
    """number of ``answer`` among the answers"""


class VcrPrediction(TypedDict):
    """The probabilities of four choices."""

    annot_id: str
    given: int | None
    """the answer whose rationale is chosen; None where the answer is chosen"""
    probabilities: list[float]
    part: NotRequired[VcrPart]
    """not in a file that was read again; nor is ``right``"""
    right: NotRequired[int | None]


# ----------------------------------------------------------------------------------------------------------- questions


def read_questions(path: Path, parts: Sequence[VcrPart]) -> list[VcrQuestion]:
    """Reads the questions of a ``SPLIT.jsonl``, those of the given parts.

    Each question comes with its rationales of the right answer, or of every answer if the right one is not public.

    Raises:
        InputError: the file is missing, or a line is damaged.
    """
    questions = []
    for number, item in enumerate(read_json_lines(path), 1):
        try:
            questions += [question for question in _parse_questions(item) if question.part in parts]
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path}: line {number}: {error!r:.200}") from error
    return questions


def _parse_questions(item: Mapping[str, Any]) -> Iterator[VcrQuestion]:
    """Yields the choice of the answer, then that of the rationale, for each answer if the right one is not public."""
    objects = tuple(sys.intern(read_text(name)) for name in item["objects"])
    question = check_words(item["question"], objects)
    answers, rationales = (_check_choices(item[f"{name}_choices"], objects) for name in ("answer", "rationale"))
    annot_id, image_id = read_text(item["annot_id"]), sys.intern(read_example_id(item["img_id"]))
    number = question_number(annot_id)
    file = sys.intern(read_text(item.get("img_fn", image_id)))
    right, reason = _check_label(item.get("answer_label")), _check_label(item.get("rationale_label"))
    yield VcrQuestion(annot_id, number, image_id, file, ANSWER, objects, question, None, answers, right)
    for given in range(CHOICES) if right is None else (right,):
        yield VcrQuestion(
            annot_id, number, image_id, file, RATIONALE, objects, question, answers[given], rationales, reason, given
        )


def _check_label(value: str | int | None) -> int | None:
    if value is None:
        return None
    if not 0 <= (label := read_integer(value)) < CHOICES:
        raise ValueError(f"label {value} is outside the {CHOICES} choices")
    return label


def _check_choices(choices: Sequence[Sequence[Word]], objects: Sequence[str]) -> tuple[tuple[Word, ...], ...]:
    if len(choices) != CHOICES:
        raise ValueError(f"{len(choices)} choices, expected {CHOICES}")
    return tuple(check_words(choice, objects) for choice in choices)


class RegionsByImgId:
    """Regions that are named by ``img_id``, by ``img_fn``, or by ViLBERT's numbers, read by ``img_id``.

    ViLBERT's LMDBs call the image train-7 by the number 7, val-7 by 1000007 and test-7 by 2000007.
    """

    def __init__(self, regions: RegionSource, files: Mapping[str, str]) -> None:
        """Takes the regions and each image's ``img_fn`` by its ``img_id``."""
        self._regions, self._files, self.feature_size = regions, files, regions.feature_size

    def __contains__(self, image_id: object) -> bool:
        return self._find_name(str(image_id)) in self._regions

    def __getitem__(self, image_id: str) -> RegionsRow:
        return self._regions[self._find_name(image_id)]

    def _find_name(self, image_id: str) -> str:
        names = (image_id, self._files.get(image_id, image_id), _number_by_vilbert(image_id))
        return next((name for name in names if name in self._regions), image_id)


def _number_by_vilbert(image_id: str) -> str:
    split, _, number = image_id.partition("-")
    return str(SPLITS.index(split) * 1_000_000 + int(number)) if split in SPLITS and number.isdecimal() else image_id


# --------------------------------------------------------------------------------------------------------- predictions


def choose_best(probabilities: Sequence[float]) -> int:
    """Returns the choice of the largest probability, the first of several."""
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def write_leaderboard(predictions: Sequence[VcrPrediction], path: Path) -> None:
    """Writes the leaderboard's CSV of probabilities; a cell without a prediction stays empty."""
    rows: dict[str, dict[str, str]] = {}
    for item in predictions:
        row = rows.setdefault(item["annot_id"], {"annot_id": item["annot_id"]})
        row |= {_name_column(item["given"], choice): repr(p) for choice, p in enumerate(item["probabilities"])}
    lines = [",".join(LEADERBOARD), *(",".join(row.get(name, "") for name in LEADERBOARD) for row in rows.values())]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def write_released_tables(predictions: Sequence[VcrPrediction], path: Path) -> None:
    """Writes the TSVs of the released code beside ``path``: ``.answer.tsv`` and ``.rationale.tsv``.

    A line is a question: its number, the best choice, the right choice (-1 if not public) and the four probabilities.
    """
    tables = defaultdict[VcrPart, list[str]](list)
    for item in predictions:
        values = " ".join(f"{p:.5f}" for p in item["probabilities"])
        right = -1 if item["right"] is None else item["right"]
        best = choose_best(item["probabilities"])
        tables[item["part"]].append(f"{question_number(item['annot_id'])}\t{best}\t{right}\t{values}\n")
    for part, table in tables.items():
        write_atomic(path.with_suffix(f".{part}.tsv"), "".join(table).encode())


def read_leaderboard(path: Path) -> list[VcrPrediction]:
    """Reads the probabilities of a leaderboard's CSV.

    Raises:
        InputError: it cannot be read or is no such file.
    """
    predictions: list[VcrPrediction] = []
    try:
        with (
            expect_layout(path, f"a leaderboard file with the columns {LEADERBOARD[0]}, {LEADERBOARD[1]}, ..."),
            path.open(newline="", encoding="utf-8") as stream,
        ):
            for row, given in product(csv.DictReader(stream), _GIVEN):
                values = [row[_name_column(given, choice)] for choice in range(CHOICES)]
                if any(values):
                    probabilities = [float(value) for value in values]
                    if not all(map(isfinite, probabilities)):
                        raise ValueError(f"{values} of {row['annot_id']} are no probabilities")
                    predictions.append({"annot_id": row["annot_id"], "given": given, "probabilities": probabilities})
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return predictions
