"""VCR: which of four answers is right, and which of four reasons is why? (https://visualcommonsense.com)."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from finetune.heads import VcrHead, choice_loss
from finetune.inputs import WHOLE, Batch, Image, Images, Sources, Text
from finetune.task import Prediction, Settings, Split, Task
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from shards.schema import Array
from shards.storage.files import read_json_lines, write_atomic
from shards.vcr_text import PEOPLE, Word, check_words, name_objects, question_number, read_names, to_sentence

SPLITS = ("train", "val", "test")
CHOICES = 4
ANSWER: Final = "answer"
RATIONALE: Final = "rationale"
Part = Literal["answer", "rationale"]
SCORES: Mapping[Part, str] = {ANSWER: "Q->A", RATIONALE: "QA->R"}
_GIVEN = (None, *range(CHOICES))
"""What is given beside the question: nothing, or one of the answers."""


def _column(given: int | None) -> str:
    return "answer" if given is None else f"rationale_conditioned_on_a{given}"


LEADERBOARD = ("annot_id", *(f"{_column(given)}_{choice}" for given, choice in product(_GIVEN, range(CHOICES))))
"""The columns of the leaderboard's file."""


class VcrSettings(Settings):
    """What is trained, and how people and regions are shown."""

    max_text: Annotated[int, Field(ge=8)] = 60
    """positions of a question with an answer"""
    max_rationale_text: Annotated[int, Field(ge=8)] = 80
    """positions of a question with its answer and a rationale"""
    max_regions: Annotated[int, Field(ge=2)] = 100
    """rows of an image, with the whole image; ground-truth boxes come first"""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = (ANSWER, RATIONALE)
    """Q→A, QA→R, or both together"""
    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    names: tuple[str, ...] = PEOPLE
    """of people. A recipe may name a file: the released ``unisex_names_table.csv``, or one with a name a line"""

    @field_validator("names", mode="before")
    @classmethod
    def _read_names(cls, value: Any) -> Any:
        return read_names(Path(value)) if isinstance(value, str) else value

    @property
    def longest_text(self) -> int:
        """Positions of the longest text that is made."""
        return max(self.max_text, self.max_rationale_text)


@dataclass(frozen=True, slots=True)
class Question:
    """A choice between four texts: answers to a question, or rationales of one of its answers."""

    annot_id: str
    image_id: str
    """``img_id``"""
    file: str
    """``img_fn``"""
    part: Part
    objects: tuple[str, ...]
    """the class of each object that words may mean"""
    question: tuple[Word, ...]
    answer: tuple[Word, ...] | None
    """the one that is to be explained"""
    choices: tuple[tuple[Word, ...], ...]
    right: int | None
    """the choice; None where it is with the server"""
    given: int | None = None
    """number of ``answer`` among the answers"""

    @property
    def number(self) -> int:
        """The number in ``annot_id``."""
        return question_number(self.annot_id)


class Vcr(Task[VcrSettings, Question]):
    """The right answer among four, and the right rationale of the right answer."""

    name = "vcr"
    settings_type = VcrSettings

    @property
    def metric(self) -> str:
        """Both right, where both are trained."""
        parts = set(self.settings.parts)
        return "Q->AR" if len(parts) == len(SCORES) else SCORES[parts.pop()]

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[Question]:
        """The questions of ``SPLIT.jsonl``: with each, its rationales given the right answer, or given every answer
        where the right one is not public. Images are known by ``img_id`` or otherwise, see `named`.
        """
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r} of VCR; there are {', '.join(SPLITS)}")
        path = data / f"{split}.jsonl"
        questions = []
        for number, item in enumerate(read_json_lines(path), 1):
            try:
                questions += [q for q in _questions(item) if q.part in self.settings.parts]
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise InputError(f"{path}: line {number}: {error!r}") from error
        return questions

    def named(self, regions: Images, examples: Sequence[Question]) -> Images:
        """See `Task.named`; `pipeline.extract --image-ids path` has ``img_fn``; ViLBERT has numbers: train-7 is 7,
        val-7 is 1000007 and test-7 is 2000007.
        """
        return _ByImgId(regions, {question.image_id: question.file for question in examples})

    def write(self, predictions: Sequence[Prediction], path: Path) -> None:
        """The leaderboard's CSV of probabilities, and beside it a TSV of each part as the released code writes them.

        The CSV is complete for the test split and both parts; elsewhere rationales are given the right answer alone.
        A line of the TSV is a question: number, best choice, right choice (-1: not public), and four probabilities.
        """
        rows: dict[str, dict[str, Any]] = {}
        tables: defaultdict[Part, list[str]] = defaultdict(list)
        for item in predictions:
            row = rows.setdefault(item["annot_id"], {"annot_id": item["annot_id"]})
            row |= {f"{_column(item['given'])}_{choice}": repr(p) for choice, p in enumerate(item["probabilities"])}
            values = " ".join(f"{p:.5f}" for p in item["probabilities"])
            right = -1 if item["right"] is None else item["right"]
            number = question_number(item["annot_id"])
            tables[item["part"]].append(f"{number}\t{_best(item['probabilities'])}\t{right}\t{values}\n")
        lines = [",".join(LEADERBOARD), *(",".join(row.get(name, "") for name in LEADERBOARD) for row in rows.values())]
        write_atomic(path, ("\n".join(lines) + "\n").encode())
        for part, table in tables.items():
            write_atomic(path.with_suffix(f".{part}.tsv"), "".join(table).encode())

    def read_predictions(self, path: Path) -> list[Prediction]:
        """See `Task.read_predictions`; reads the CSV."""
        predictions: list[Prediction] = []
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    for given in _GIVEN:
                        values = [row[f"{_column(given)}_{choice}"] for choice in range(CHOICES)]
                        if any(values):
                            item = {"annot_id": row["annot_id"], "given": given}
                            predictions.append(item | {"probabilities": list(map(float, values))})
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(
                f"{path}: is no leaderboard file with the columns {LEADERBOARD[0]}, ...: {error!r}"
            ) from error
        return predictions

    def evaluate(self, predictions: Sequence[Prediction], examples: Sequence[Question]) -> dict[str, float]:
        """The share of questions with the right answer (Q->A), with the right rationale given the right answer (QA->R),
        and with both (Q->AR); those of the parts that the settings name.
        """
        found = {(item["annot_id"], item["given"]): item["probabilities"] for item in predictions}
        right: dict[Part, dict[str, bool]] = {part: {} for part in self.settings.parts}
        for question in examples:
            if question.right is None:
                raise InputError(
                    f"{question.annot_id} has no public answer: the labels of test are with the leaderboard; send the "
                    "predictions there"
                )
            key = question.annot_id, question.given
            if key not in found:
                raise InputError(
                    f"{question.annot_id}: the predictions lack its {question.part}; where the parts were trained "
                    "separately, predict with both models, or name one as --checkpoint to score its part alone"
                )
            right[question.part][question.annot_id] = _best(found[key]) == question.right
        scores = {SCORES[part]: sum(hits.values()) / len(hits) for part, hits in right.items()}
        if len(right) == len(SCORES):
            both = [hit and right[RATIONALE][annot_id] for annot_id, hit in right[ANSWER].items()]
            scores["Q->AR"] = sum(both) / len(both)
        return scores

    # ----------------------------------------------------------------------------------------------------- training

    def fitted(self, examples: Sequence[Question]) -> Self:
        """See `Task.fitted`."""
        if hidden := next((question for question in examples if question.right is None), None):
            raise InputError(f"{hidden.annot_id} has no public answer: train on a split that has (train, val)")
        return self

    def make_head(self, config: ModelConfig) -> VcrHead:
        """See `Task.make_head`."""
        return VcrHead(config)

    def collate(
        self,
        split: Split[Question],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,  # noqa: ARG002
    ) -> Batch:
        """Four pairs in a row for each question; rationale bool [B]; right int64 [B], -1 where it is not public."""
        questions = split.take(numbers)
        texts = [text for question in questions for text in self._texts(question, split.sources)]
        images = [image for question in questions for image in [self._image(question, split.sources)] * CHOICES]
        labels = {
            "rationale": torch.tensor([question.part == RATIONALE for question in questions], dtype=torch.bool),
            "right": torch.tensor([-1 if q.right is None else q.right for q in questions], dtype=torch.int64),
        }
        return Batch(split.sources.pad(texts, images), labels)

    def _texts(self, question: Question, sources: Sources) -> list[Text]:
        encoder = sources.texts
        names = name_objects(question.objects, self.settings.names, question.number)
        first = encoder.pieces(to_sentence(question.question, names))
        longest = self.settings.max_text
        if question.answer is not None:
            first = [*first, encoder.sep, *encoder.pieces(to_sentence(question.answer, names))]
            longest = self.settings.max_rationale_text
        texts = []
        for choice in question.choices:
            shown, second = _cut(first, encoder.pieces(to_sentence(choice, names)), longest - 3)
            if self.settings.as_released:
                first = shown  # what a long choice displaces is gone for the choices after it
            texts.append(encoder.pair(shown, second))
        return texts

    def _image(self, question: Question, sources: Sources) -> Image:
        """The detector's regions, then those of the ground truth, which are kept first where there is no room."""
        found = [
            source[question.image_id]
            for source in (sources.images, sources.gold)
            if source is not None and question.image_id in source
        ]
        if not found:
            return sources.image(question.image_id)
        images = [Image.of(row) for row in found]
        if self.settings.as_released:  # weights that count the rows of the whole image, too
            counts = [len(image.features) for image in images]
            whole = np.average([image.features[:1] for image in images], axis=0, weights=counts).astype(np.float32)
        else:
            whole = np.concatenate([image.features[1:] for image in images]).mean(0, keepdims=True)
        room = self.settings.max_regions - 1
        kept: list[Image] = []
        for image in reversed(images):
            rows = slice(1, 1 + room)
            kept.insert(0, Image(image.features[rows], image.locations[rows]))
            room -= len(kept[0].features)
        return Image(
            np.concatenate([whole, *(image.features for image in kept)]),
            np.concatenate([WHOLE, *(image.locations for image in kept)]),
        )

    def count_targets(self, batch: Batch) -> int:
        """Questions."""
        return len(batch.labels["right"])

    def score(self, scores: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.score`."""
        chosen = self._chosen(scores, batch)
        right = batch.labels["right"]
        return choice_loss(chosen, right, self.settings.loss), (chosen.argmax(1) == right).sum()

    def _chosen(self, scores: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """float [B, 4]: the scores of the head of each question's part."""
        answers, rationales = (score.view(-1, CHOICES) for score in scores)
        if self.settings.as_released:  # its recipe of QA→R names the head of Q→A
            return answers + 0 * rationales
        return torch.where(batch.labels["rationale"].to(answers.device)[:, None], rationales, answers)

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, scores: tuple[Tensor, Tensor], batch: Batch, examples: Sequence[Question]) -> list[Prediction]:
        """See `Task.predict`."""
        return [
            {
                "annot_id": question.annot_id,
                "part": question.part,
                "given": question.given,
                "right": question.right,
                "probabilities": probabilities,
            }
            for question, probabilities in zip(examples, self._chosen(scores, batch).softmax(1).tolist(), strict=True)
        ]


class _ByImgId:
    """Regions that are named by ``img_id`` or by ``img_fn``, or by numbers as in ViLBERT's LMDBs."""

    def __init__(self, images: Images, files: Mapping[str, str]) -> None:
        """``files``: ``img_fn`` by ``img_id``."""
        self._images, self._files, self.feature_size = images, files, images.feature_size

    def __contains__(self, image_id: object) -> bool:
        return self._name(str(image_id)) in self._images

    def __getitem__(self, image_id: str) -> Any:
        return self._images[self._name(image_id)]

    def _name(self, image_id: str) -> str:
        names = (image_id, self._files.get(image_id, image_id), _number(image_id))
        return next((name for name in names if name in self._images), image_id)


def _number(image_id: str) -> str:
    split, _, number = image_id.partition("-")
    return str(SPLITS.index(split) * 1_000_000 + int(number)) if split in SPLITS and number.isdecimal() else image_id


def _questions(item: Mapping[str, Any]) -> Iterator[Question]:
    """The choice of the answer, and of the rationale: of the right answer, or of each if that is not public."""
    objects = tuple(sys.intern(str(name)) for name in item["objects"])
    question, answers, rationales = (
        check_words(item["question"], objects),
        _choices(item["answer_choices"], objects),
        _choices(item["rationale_choices"], objects),
    )
    annot_id, image_id = str(item["annot_id"]), sys.intern(str(item["img_id"]))
    file = sys.intern(str(item.get("img_fn", image_id)))
    right, reason = _label(item.get("answer_label")), _label(item.get("rationale_label"))
    question_number(annot_id)  # must be there
    yield Question(annot_id, image_id, file, ANSWER, objects, question, None, answers, right)
    for given in range(CHOICES) if right is None else (right,):
        yield Question(
            annot_id, image_id, file, RATIONALE, objects, question, answers[given], rationales, reason, given
        )


def _label(value: Any) -> int | None:
    if value is None:
        return None
    if not 0 <= int(value) < CHOICES:
        raise ValueError(f"label {value} is outside the {CHOICES} choices")
    return int(value)


def _choices(choices: Sequence[Any], objects: Sequence[str]) -> tuple[tuple[Word, ...], ...]:
    if len(choices) != CHOICES:
        raise ValueError(f"{len(choices)} choices, expected {CHOICES}")
    return tuple(check_words(choice, objects) for choice in choices)


def _cut(first: list[int], second: list[int], most: int) -> tuple[list[int], list[int]]:
    """Takes pieces off the end of the longer one, off the second of two equal ones, until both have ``most`` pieces."""
    excess = max(0, len(first) + len(second) - most)
    keep_first, keep_second = len(first), len(second)
    for _ in range(excess):
        if keep_first > keep_second:
            keep_first -= 1
        else:
            keep_second -= 1
    return first[:keep_first], second[:keep_second]


def _best(probabilities: Sequence[float]) -> int:
    """The first of the largest."""
    return max(range(len(probabilities)), key=probabilities.__getitem__)
