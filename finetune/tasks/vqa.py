"""VQA 2.0: an answer to a question about an image (https://visualqa.org)."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from finetune.heads import VqaHead, answer_loss
from finetune.inputs import Batch, Images
from finetune.released.tsv import LineRegions, is_released, read_lines
from finetune.task import Prediction, Settings, Split, Task
from finetune.tasks.vqa_accuracy import accuracy, normalise
from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from shards.regions.tsv import VQA, Fields
from shards.schema import Array
from shards.storage.files import read_json, write_json

SHARE = 0.3
"""What an annotator adds to the target of an answer, up to 1: the accuracy, averaged over nine of ten annotators."""


class VqaSettings(Settings):
    """How answers become classes."""

    least_count: Annotated[int, Field(ge=1)] = 9
    """an answer is a class if it is the main answer of so many training questions"""
    answers: tuple[str, ...] | None = None
    """the classes; by default those of the training questions. A recipe may name a JSON file"""
    hidden_size: Annotated[int, Field(ge=1)] = 2048
    """of the classifier"""

    @field_validator("answers", mode="before")
    @classmethod
    def _read_answers(cls, value: Any) -> Any:
        return read_json(Path(value)) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Question:
    """A question. Without public answers, the last four are None; in released files all of them but ``targets``."""

    question_id: int
    image_id: str
    text: str
    targets: Mapping[str, float] | None = None
    """how right the answers are"""
    answers: tuple[str, ...] | None = None
    """what the annotators said"""
    main_answer: str | None = None
    answer_type: str | None = None


class Vqa(Task[VqaSettings, Question]):
    """One of the frequent answers for each question."""

    name = "vqa"
    metric = "accuracy"
    settings_type = VqaSettings

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[Question]:
        """The questions of ``v2_OpenEnded_mscoco_SPLIT_questions.json``, with annotations where there are any.

        Their images are known by the number as text. The labels of a released file, ``SPLIT.tsv``, are positions in the
        list of answers of the settings.
        """
        if is_released(split):
            path = data / split
            return [self._released(path, place, fields) for place, fields in read_lines(path, VQA)]
        path = data / f"v2_OpenEnded_mscoco_{split}_questions.json"
        annotations = data / f"v2_mscoco_{split}_annotations.json"
        annotated = _read_annotations(annotations) if annotations.exists() else None
        try:
            questions = [
                Question(int(item["question_id"]), str(item["image_id"]), str(item["question"]))
                for item in read_json(path)["questions"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is no file of VQA questions: {error!r}") from error
        if annotated is None:
            return questions
        if unmatched := annotated.keys() ^ {question.question_id for question in questions}:
            raise InputError(f"{annotations}: question {min(unmatched)} is not in both this file and {path}")
        return [_with_answers(question, annotated[question.question_id], annotations) for question in questions]

    def _released(self, path: Path, place: str, fields: Fields) -> Question:
        if self.settings.answers is None:
            raise InputError(f"{path}: its labels are positions in a list of answers; give it as task.answers")
        try:
            labels, scores = (fields[name].split("|") for name in ("labels", "scores"))
            targets = {
                self._answer(int(label)): float(score)
                for label, score in zip(labels, scores, strict=True)
                if float(score) > 0
            }
            return Question(int(fields["question_id"]), place, fields["question"], targets)
        except ValueError as error:
            raise InputError(f"{path}: {place}: {error}") from None

    def _answer(self, label: int) -> str:
        answers = self.settings.answers or ()
        if not 0 <= label < len(answers):
            raise ValueError(f"label {label} is outside the list of {pluralize(len(answers), 'answer')}")
        return answers[label]

    def images(self, data: Path, split: str, regions: Images | None) -> Images:
        """See `Task.images`."""
        return LineRegions(data / split, VQA) if is_released(split) else super().images(data, split, regions)

    def write(self, predictions: Sequence[Prediction], path: Path) -> None:
        """The result file of the evaluation server: a list of question_id and answer."""
        write_json(predictions, path)

    def read_predictions(self, path: Path) -> list[Prediction]:
        """See `Task.read_predictions`."""
        try:
            items = [(int(item["question_id"]), str(item["answer"])) for item in read_json(path)]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is no VQA result file, a list of question_id and answer: {error!r}") from error
        return [{"question_id": question_id, "answer": answer} for question_id, answer in items]

    def evaluate(self, predictions: Sequence[Prediction], examples: Sequence[Question]) -> dict[str, float]:
        """VQA accuracy, and for each answer type; of a released file the mean target."""
        answers = {item["question_id"]: item["answer"] for item in predictions}
        wanted = {question.question_id for question in examples}
        if len(answers) < len(predictions) or answers.keys() != wanted:
            missing, unknown = len(wanted - answers.keys()), len(answers.keys() - wanted)
            raise InputError(
                f"answers do not fit the split of {pluralize(len(wanted), 'question')}: {missing} are missing, "
                f"{unknown} belong to other questions, {len(predictions) - len(answers)} are repeated"
            )
        by_type = defaultdict(list)
        for question in examples:
            by_type[question.answer_type].append(_rightness(answers[question.question_id], question))
        found = [value for values in by_type.values() for value in values]
        scores = {self.metric: sum(found) / len(found)}
        return scores | {f"{self.metric}/{kind}": sum(v) / len(v) for kind, v in by_type.items() if kind is not None}

    # ----------------------------------------------------------------------------------------------------- training

    def fitted(self, examples: Sequence[Question]) -> Self:
        """With the frequent answers of the training questions as classes, the most frequent one first."""
        if hidden := next((question for question in examples if question.targets is None), None):
            raise InputError(f"question {hidden.question_id} has no answers to learn: its split lacks annotations")
        if self.settings.answers is not None:
            return self
        counts = Counter(normalise(question.main_answer) for question in examples if question.main_answer is not None)
        frequent = [answer for answer, count in counts.items() if count >= self.settings.least_count]
        if not frequent:
            raise InputError(
                f"none of {pluralize(len(counts), 'answer')} is the main one of "
                f"{pluralize(self.settings.least_count, 'training question')}; lower task.least_count"
            )
        answers = tuple(sorted(frequent, key=lambda answer: (-counts[answer], answer)))
        return type(self)(self.settings.model_copy(update={"answers": answers}))

    @property
    def answers(self) -> tuple[str, ...]:
        """The classes."""
        assert self.settings.answers is not None, "fitted() comes first"
        return self.settings.answers

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {answer: number for number, answer in enumerate(self.answers)}

    def make_head(self, config: ModelConfig) -> VqaHead:
        """See `Task.make_head`."""
        return VqaHead(config, answers=len(self.answers), hidden_size=self.settings.hidden_size)

    def collate(
        self,
        split: Split[Question],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,  # noqa: ARG002
    ) -> Batch:
        """Targets float32 [B, A]: answers that are no class have none."""
        questions = split.take(numbers)
        targets = np.zeros((len(questions), len(self.answers)), np.float32)
        for row, question in enumerate(questions):
            for answer, right in (question.targets or {}).items():
                if answer in self._numbers:
                    targets[row, self._numbers[answer]] = right
        sources = split.sources
        texts = [sources.texts.text(question.text, self.settings.max_text) for question in questions]
        images = [sources.image(question.image_id) for question in questions]
        return Batch(sources.pad(texts, images), {"targets": torch.from_numpy(targets)})

    def count_targets(self, batch: Batch) -> int:
        """Questions."""
        return len(batch.labels["targets"])

    def score(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.score`; an answer counts as far as it is right."""
        targets = batch.labels["targets"]
        right = targets.gather(1, scores.argmax(1, keepdim=True)).sum()
        return answer_loss(scores, targets), right

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, scores: Tensor, batch: Batch, examples: Sequence[Question]) -> list[Prediction]:  # noqa: ARG002
        """See `Task.predict`."""
        return [
            {"question_id": question.question_id, "answer": self.answers[best]}
            for question, best in zip(examples, scores.argmax(1).tolist(), strict=True)
        ]


def _read_annotations(path: Path) -> dict[int, Mapping[str, Any]]:
    try:
        return {int(item["question_id"]): item for item in read_json(path)["annotations"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no file of VQA annotations: {error!r}") from error


def _with_answers(question: Question, item: Mapping[str, Any], path: Path) -> Question:
    try:
        answers = tuple(sys.intern(str(answer["answer"])) for answer in item["answers"])
        main, kind = (sys.intern(str(item[name])) for name in ("multiple_choice_answer", "answer_type"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: question {question.question_id}: {error!r}") from error
    if not answers:
        raise InputError(f"{path}: question {question.question_id} has no answers")
    counts = Counter(map(normalise, answers))
    targets = {answer: min(1.0, SHARE * count) for answer, count in counts.items()}
    return Question(question.question_id, question.image_id, question.text, targets, answers, main, kind)


def _rightness(answer: str, question: Question) -> float:
    if question.answers is not None:
        return accuracy(answer, question.answers)
    if question.targets is not None:
        return question.targets.get(answer, 0.0)
    raise InputError(
        f"question {question.question_id} has no public answer: the labels of test splits are with the server; "
        "upload the predictions there"
    )
