"""VCR: which of four answers is right, and which of four reasons explains it? (https://visualcommonsense.com)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from finetune.heads import VcrHead, compute_choice_loss
from finetune.inputs import ImageRows, RegionSource, Sources, TaskBatch, TokenizedText
from finetune.task import Split, Task, TaskSettings
from finetune.tasks.vcr_files import (
    ANSWER,
    CHOICES,
    RATIONALE,
    SPLITS,
    RegionsByImgId,
    VcrPart,
    VcrPrediction,
    VcrQuestion,
    choose_best,
    read_leaderboard,
    read_questions,
    write_leaderboard,
    write_released_tables,
)
from parsers.command import InputError
from pretrain.data.truncation import truncate_lengths
from shards.boxes import WHOLE_IMAGE
from shards.schema import Array
from shards.vcr_text import PEOPLE, name_objects, read_names, to_sentence

SCORES: Mapping[VcrPart, str] = {ANSWER: "Q->A", RATIONALE: "QA->R"}


class VcrSettings(TaskSettings):
    """The settings of VCR: what is trained, and how people and regions are shown."""

    max_text: Annotated[int, Field(ge=8)] = 60
    """most positions of a question with an answer"""
    max_rationale_text: Annotated[int, Field(ge=8)] = 80
    """most positions of a question with its answer and a rationale"""
    max_regions: Annotated[int, Field(ge=2)] = 100
    """most rows of an image, the whole image included; detected regions are left out before ground-truth boxes"""
    parts: Annotated[tuple[VcrPart, ...], Field(min_length=1)] = (ANSWER, RATIONALE)
    """what is trained: answer (Q→A), rationale (QA→R), or both together"""
    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid decides about each choice separately, softmax makes the four choices compete"""
    names: tuple[str, ...] = PEOPLE
    """names for people. A recipe may name a file: the released ``unisex_names_table.csv``, or one name a line"""

    @field_validator("names", mode="before")
    @classmethod
    def _read_names(cls, value: object) -> object:
        return read_names(Path(value)) if isinstance(value, str) else value

    @property
    def longest_text(self) -> int:
        """Most positions of any text that the task makes."""
        return max(self.max_text, self.max_rationale_text)


class Vcr(Task[VcrSettings, VcrQuestion, VcrPrediction]):
    """Chooses an answer among four, and a rationale for the right answer among four."""

    name = "vcr"
    settings_type = VcrSettings
    head_type = VcrHead
    has_parts = True

    @property
    def metric(self) -> str:
        """The score of the part that is trained; if both are, the share of questions with both right."""
        parts = set(self.settings.parts)
        return "Q->AR" if len(parts) == len(SCORES) else SCORES[parts.pop()]

    # -------------------------------------------------------------------------------------------------------- files

    def read(self, data: Path, split: str) -> list[VcrQuestion]:
        """Reads ``SPLIT.jsonl``; an image id is ``img_id``. See `finetune.tasks.vcr_files.read_questions`."""
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r} of VCR; there are {', '.join(SPLITS)}")
        return read_questions(data / f"{split}.jsonl", self.settings.parts)

    def rename_regions(self, regions: RegionSource, examples: Sequence[VcrQuestion]) -> RegionsByImgId:
        """See `Task.rename_regions`. ``pipeline.extract --id-rule path`` uses ``img_fn``, ViLBERT uses numbers."""
        return RegionsByImgId(regions, {question.image_id: question.file for question in examples})

    def write(self, predictions: Sequence[VcrPrediction], path: Path) -> None:
        """Writes the leaderboard's CSV, and beside it a TSV of each part as the released code writes it.

        The CSV is complete for the test split with both parts. In the other splits rationales are chosen for the right
        answer alone.
        """
        write_leaderboard(predictions, path)
        write_released_tables(predictions, path)

    def read_predictions(self, path: Path) -> list[VcrPrediction]:
        """Reads the leaderboard's CSV. See `Task.read_predictions`."""
        return read_leaderboard(path)

    def evaluate(self, predictions: Sequence[VcrPrediction], examples: Sequence[VcrQuestion]) -> dict[str, float]:
        """Returns the scores of the parts in the settings.

        Q->A is the share of questions with the right answer, QA->R the share with the right rationale given the right
        answer, and Q->AR the share with both.
        """
        self.check_labels(examples)
        found = {(item["annot_id"], item["given"]): item["probabilities"] for item in predictions}
        right: dict[VcrPart, dict[str, bool]] = {part: {} for part in self.settings.parts}
        for question in examples:
            key = question.annot_id, question.given
            if key not in found:
                raise InputError(
                    f"{question.annot_id}: the predictions lack its {question.part}; if the parts were trained "
                    "separately, predict with both models, or name one as --model to score its part alone"
                )
            right[question.part][question.annot_id] = choose_best(found[key]) == question.right
        scores = {SCORES[part]: sum(hits.values()) / len(hits) for part, hits in right.items()}
        if len(right) == len(SCORES):
            both = [hit and right[RATIONALE][annot_id] for annot_id, hit in right[ANSWER].items()]
            scores["Q->AR"] = sum(both) / len(both)
        return scores

    def check_labels(self, examples: Sequence[VcrQuestion]) -> None:
        """See `Task.check_labels`."""
        if hidden := next((question for question in examples if question.right is None), None):
            raise InputError(
                f"{hidden.annot_id} has no public answer: only the leaderboard has the labels of test; send the "
                "predictions there"
            )

    # ----------------------------------------------------------------------------------------------------- training

    def fit(self, examples: Sequence[VcrQuestion]) -> Self:
        """Refuses questions without a public answer. See `Task.fit`."""
        if hidden := next((question for question in examples if question.right is None), None):
            raise InputError(f"{hidden.annot_id} has no public answer to learn from; train on train or val")
        return self

    def collate(
        self,
        split: Split[VcrQuestion],
        numbers: Array,
        random: Sequence[np.random.Generator] | None,  # noqa: ARG002
    ) -> TaskBatch:
        """Pads questions to a batch of four pairs in a row for each.

        Its ``rationale``, bool [B], is True for QA→R. Its ``right``, int64 [B], is the right choice or -1 if not
        public.
        """
        questions = split.take(numbers)
        texts = [text for question in questions for text in self._encode_choices(question, split.sources)]
        images = [image for question in questions for image in [self._join_regions(question, split.sources)] * CHOICES]
        labels = {
            "rationale": torch.tensor([question.part == RATIONALE for question in questions], dtype=torch.bool),
            "right": torch.tensor([-1 if q.right is None else q.right for q in questions], dtype=torch.int64),
        }
        return TaskBatch(split.sources.pad(texts, images), labels)

    def _encode_choices(self, question: VcrQuestion, sources: Sources) -> list[TokenizedText]:
        """Returns the question with each choice."""
        encoder = sources.texts
        names = name_objects(question.objects, self.settings.names, question.number)
        first = encoder.tokenize(to_sentence(question.question, names))
        longest = self.settings.max_text
        if question.answer is not None:
            first = [*first, encoder.sep, *encoder.tokenize(to_sentence(question.answer, names))]
            longest = self.settings.max_rationale_text
        texts = []
        for choice in question.choices:
            second = encoder.tokenize(to_sentence(choice, names))
            room_first, room_second = truncate_lengths([len(first), len(second)], longest - 3)
            shown = first[:room_first]
            if self.settings.as_released:
                first = shown  # what a long choice displaces is missing for the choices after it
            texts.append(encoder.encode_pair(shown, second[:room_second]))
        return texts

    def _join_regions(self, question: VcrQuestion, sources: Sources) -> ImageRows:
        """Returns the whole image, the detected regions, then the ground-truth boxes.

        At most ``max_regions`` rows are kept. Ground-truth boxes take their rows first.
        """
        found = [
            source[question.image_id]
            for source in (sources.images, sources.gold)
            if source is not None and question.image_id in source
        ]
        if not found:
            return sources.read_image(question.image_id)
        images = [ImageRows.from_regions(row) for row in found]
        if self.settings.as_released:  # its weights count the rows of the whole image as well
            counts = [len(image.features) for image in images]
            whole = np.average([image.features[:1] for image in images], axis=0, weights=counts).astype(np.float32)
        else:
            whole = np.concatenate([image.features[1:] for image in images]).mean(0, keepdims=True)
        room = self.settings.max_regions - 1
        kept: list[ImageRows] = []
        for image in reversed(images):
            rows = slice(1, 1 + room)
            kept.insert(0, ImageRows(image.features[rows], image.locations[rows]))
            room -= len(kept[0].features)
        return ImageRows(
            np.concatenate([whole, *(image.features for image in kept)]),
            np.concatenate([WHOLE_IMAGE, *(image.locations for image in kept)]),
        )

    def count_targets(self, batch: TaskBatch) -> int:
        """Returns the number of questions."""
        return len(batch.labels["right"])

    def compute_loss(self, logits: Tensor, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """See `Task.compute_loss`."""
        chosen = self._select_part(logits, batch)
        right = batch.labels["right"]
        return compute_choice_loss(chosen, right, self.settings.loss), (chosen.argmax(1) == right).sum()

    def _select_part(self, logits: Tensor, batch: TaskBatch) -> Tensor:
        """Returns float [B, 4]: the logits for the part of each question, from float [2, 4 B]."""
        answers, rationales = logits.view(2, -1, CHOICES).unbind()
        if self.settings.as_released:  # its recipe of QA→R names the head of Q→A
            return answers + 0 * rationales
        return torch.where(batch.labels["rationale"].to(answers.device)[:, None], rationales, answers)

    # --------------------------------------------------------------------------------------------------- predicting

    def predict(self, logits: Tensor, batch: TaskBatch, examples: Sequence[VcrQuestion]) -> list[VcrPrediction]:
        """See `Task.predict`."""
        return [
            {
                "annot_id": question.annot_id,
                "part": question.part,
                "given": question.given,
                "right": question.right,
                "probabilities": probabilities,
            }
            for question, probabilities in zip(
                examples, self._select_part(logits, batch).softmax(1).tolist(), strict=True
            )
        ]
