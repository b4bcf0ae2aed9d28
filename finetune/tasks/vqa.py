"""VQA 2.0: an answer to a question about an image (https://visualqa.org)."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from finetune.heads import VqaHead, compute_answer_loss
from finetune.inputs import TaskBatch
from finetune.released.tsv import is_released, parse_lines
from finetune.task import Split, Task, TaskSettings
from finetune.tasks.checks import expect_layout, match_predictions, read_example_id, read_integer, read_text
from finetune.tasks.vqa_accuracy import compute_accuracy, normalise
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from shards.regions.tsv import VQA, Fields
from shards.schema import Array
from shards.storage.files import read_json, write_json

SHARE = 0.3
"""Each annotator who gave an answer adds this to its target, up to 1: the accuracy averaged over nine of ten."""


class VqaSettings(TaskSettings):
    """The settings of VQA: which answers are classes, and the size of the head."""

    least_count: Annotated[int, Field(ge=1)] = 9
    """an answer becomes a class if it is the main answer of this many training questions"""
    answers: tuple[str, ...] | None = None
    """the classes; by default they are found in the training questions. A recipe may name a JSON file with a list"""
    hidden_size: Annotated[int, Field(ge=1, le=65_536)] = 2048
    """width of the classifier's hidden layer"""

    @field_validator("answers", mode="before")
    @classmethod
    def _read_answers(cls, value: object) -> object:
        return read_json(Path(value)) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class VqaQuestion:
    """A question about an image.

    Without public annotations the last four fields are None. A released file has ``targets``, but not the other three.
    """

    question_id: int
    image_id: str
    text: str
    targets: Mapping[str, float] | None = None
    """how right each answer is, between 0 and 1; the others are wrong"""
    answers: tuple[str, ...] | None = None
    """the answers of the annotators"""
    main_answer: str | None = None
    answer_type: str | None = None


class VqaPrediction(TypedDict):
    """An entry of the result file."""

    question_id: int
    answer: str | None
    """None, in a file of somebody else, is no answer and earns nothing"""


class Vqa(Task[VqaSettings, VqaQuestion, VqaPrediction]):
    """Chooses one of the frequent answers for each question."""

    name = "vqa"
    metric = "accuracy"
    settings_type = VqaSettings
    head_type = VqaHead
    released_columns = VQA

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[VqaQuestion]:
        """Reads ``v2_OpenEnded_mscoco_SPLIT_questions.json``, with the annotations if their file is there.

        An image id is the image's number as text. A released file, ``SPLIT.tsv``, names answers by their positions in
        the setting ``answers``.
        """
        if is_released(split):
            if self.settings.answers is None:
                raise InputError(
                    f"{data / split}: its labels are positions in a list of answers; give it as task.answers"
                )
            return parse_lines(data / split, VQA, self._parse_released)
        path = data / f"v2_OpenEnded_mscoco_{split}_questions.json"
        with expect_layout(path, "a file of VQA questions"):
            questions = [
                VqaQuestion(
                    read_integer(item["question_id"]), read_example_id(item["image_id"]), read_text(item["question"])
                )
                for item in read_json(path)["questions"]
            ]
        annotations = data / f"v2_mscoco_{split}_annotations.json"
        return _annotate(questions, path, annotations) if annotations.exists() else questions

    def _parse_released(self, name: str, fields: Fields) -> VqaQuestion:
        """Parses a line of a released file; raises ValueError if it is damaged."""
        labels, scores = (fields[column].split("|") for column in ("labels", "scores"))
        pairs = [(int(label), float(score)) for label, score in zip(labels, scores, strict=True) if float(score) > 0]
        for label, _ in pairs:
            if not 0 <= label < len(self.answers):
                raise ValueError(f"label {label} is outside the {len(self.answers)} answers")
        return VqaQuestion(
            int(fields["question_id"]), name, fields["question"], {self.answers[label]: score for label, score in pairs}
        )

    def write(self, predictions: Sequence[VqaPrediction], path: Path) -> None:
        """Writes the result file of the evaluation server: a list of question_id and answer."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[VqaPrediction]:
        """See `Task.read_predictions`."""
        with expect_layout(path, "a VQA result file, a list of question_id and answer"):
            return [
                {
                    "question_id": read_integer(item["question_id"]),
                    "answer": None if item["answer"] is None else read_text(item["answer"]),
                }
                for item in read_json(path)
            ]

    def evaluate(self, predictions: Sequence[VqaPrediction], examples: Sequence[VqaQuestion]) -> dict[str, float]:
        """Returns the VQA accuracy, also for each answer type. For a released file it is the mean target."""
        self.check_labels(examples)
        wanted = [question.question_id for question in examples]
        ordered = match_predictions(predictions, wanted, lambda item: item["question_id"], "questions")
        by_type = defaultdict[str | None, list[float]](list)
        for question, prediction in zip(examples, ordered, strict=True):
            by_type[question.answer_type].append(_rate(prediction["answer"], question))
        rated = [value for values in by_type.values() for value in values]
        scores = {self.metric: sum(rated) / len(rated)}
        return scores | {f"{self.metric}/{kind}": sum(v) / len(v) for kind, v in by_type.items() if kind is not None}

    def check_labels(self, examples: Sequence[VqaQuestion]) -> None:
        """See `Task.check_labels`."""
        if hidden := next((question for question in examples if question.targets is None), None):
            raise InputError(
                f"question {hidden.question_id} has no public answer: only the server has the labels of the test "
                "splits; upload the predictions there"
            )

    # ----------------------------------------------------------------------------------------------------- training

    def fit(self, examples: Sequence[VqaQuestion]) -> Self:
        """Makes the frequent answers of the training questions the classes, the most frequent one first."""
        if hidden := next((question for question in examples if question.targets is None), None):
            raise InputError(f"question {hidden.question_id} has no answers to learn from: its split lacks annotations")
        if self.settings.answers is not None:
            return self
        counts = Counter(normalise(question.main_answer) for question in examples if question.main_answer is not None)
        frequent = [answer for answer, count in counts.items() if count >= self.settings.least_count]
        if not frequent:
            raise InputError(
                f"none of {len(counts)} answers is the main answer of {self.settings.least_count} training questions; "
                "lower task.least_count"
            )
        answers = tuple(sorted(frequent, key=lambda answer: (-counts[answer], answer)))
        return type(self)(self.settings.model_copy(update={"answers": answers}))

    @property
    def answers(self) -> tuple[str, ...]:
        """The classes."""
        assert self.settings.answers is not None, "fit() comes first"
        return self.settings.answers

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {answer: number for number, answer in enumerate(self.answers)}

    def make_head(self, config: ModelConfig) -> VqaHead:
        """Makes a head with one output for each class."""
        return VqaHead(config, answers=len(self.answers), hidden_size=self.settings.hidden_size)

    def collate(
        self,
        split: Split[VqaQuestion],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,  # noqa: ARG002
    ) -> TaskBatch:
        """Pads questions to a batch. Its ``targets``, float32 [B, A], leave out answers that are not a class."""
        questions = split.take(numbers)
        targets = np.zeros((len(questions), len(self.answers)), np.float32)
        for row, question in enumerate(questions):
            for answer, right in (question.targets or {}).items():
                if answer in self._numbers:
                    targets[row, self._numbers[answer]] = right
        sources = split.sources
        texts = [sources.texts.encode(question.text, self.settings.max_text) for question in questions]
        images = [sources.read_image(question.image_id) for question in questions]
        return TaskBatch(sources.pad(texts, images), {"targets": torch.from_numpy(targets)})

    def count_targets(self, batch: TaskBatch) -> int:
        """Returns the number of questions."""
        return len(batch.labels["targets"])

    def compute_loss(self, logits: Tensor, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """See `Task.compute_loss`. The best answer of a question counts as far as it is right."""
        targets = batch.labels["targets"]
        right = targets.gather(1, logits.argmax(1, keepdim=True)).sum()
        return compute_answer_loss(logits, targets), right

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(
        self,
        logits: Tensor,
        batch: TaskBatch,  # noqa: ARG002
        examples: Sequence[VqaQuestion],
    ) -> list[VqaPrediction]:
        """See `Task.predict`."""
        return [
            {"question_id": question.question_id, "answer": self.answers[best]}
            for question, best in zip(examples, logits.argmax(1).tolist(), strict=True)
        ]


def _annotate(questions: Sequence[VqaQuestion], path: Path, annotations: Path) -> list[VqaQuestion]:
    """Adds to the questions, which are from ``path``, what the annotators said."""
    with expect_layout(annotations, "a file of VQA annotations"):
        found = {read_integer(item["question_id"]): item for item in read_json(annotations)["annotations"]}
    if unmatched := found.keys() ^ {question.question_id for question in questions}:
        raise InputError(f"{annotations}: question {min(unmatched)} is not in both this file and {path}")
    return [_add_answers(question, found[question.question_id], annotations) for question in questions]


def _add_answers(question: VqaQuestion, item: Mapping[str, Any], path: Path) -> VqaQuestion:
    with expect_layout(path, f"a file of VQA annotations (question {question.question_id})"):
        answers = tuple(sys.intern(read_text(answer["answer"])) for answer in item["answers"])
        main, kind = (sys.intern(read_text(item[key])) for key in ("multiple_choice_answer", "answer_type"))
    if not answers:
        raise InputError(f"{path}: question {question.question_id} has no answers")
    counts = Counter(map(normalise, answers))
    targets = {answer: min(1.0, SHARE * count) for answer, count in counts.items()}
    return replace(question, targets=targets, answers=answers, main_answer=main, answer_type=kind)


def _rate(answer: str | None, question: VqaQuestion) -> float:
    """Returns how right an answer is, between 0 and 1."""
    if answer is None:
        return 0.0
    if question.answers is not None:
        return compute_accuracy(answer, question.answers)
    assert question.targets is not None, "check_labels() comes first"
    return question.targets.get(answer, 0.0)
