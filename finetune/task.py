"""The interface of a downstream task: how it is read, collated, trained, predicted, scored and written.

A task is a class on `Task`, named in `finetune.tasks.TASKS`; docs/tasks.md adds one from scratch. Ranks, precision,
checkpoints and logs are the same for all tasks and live in `finetune.training` and `pretrain.training`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from finetune.heads import FineTunedModel, TaskHead
from finetune.inputs import RegionSource, Sources, TaskBatch
from finetune.released.tsv import LineRegions, is_released
from parsers.command import InputError, progress
from pretrain.model.config import ModelConfig
from shards.schema import Array

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext


class TaskSettings(BaseModel):
    """The section ``task`` of a recipe: everything that collating and the head depend on. The model keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_text: Annotated[int, Field(ge=3)] = 64
    """most positions of a text, [CLS] and [SEP] included; the end of a longer text is cut off"""
    as_released: bool = False
    """repeat the quirks of the released code that change scores (docs/tasks.md lists them)"""

    @property
    def longest_text(self) -> int:
        """Most positions of any text that the task makes."""
        return self.max_text


class Example(Protocol):
    """One thing to predict: a question, an expression or a caption. A dataclass of JSON values.

    An example is small, because the features of its image are only read when it is collated.
    """

    @property
    def image_id(self) -> str:
        """The image that the example is about."""
        ...


S = TypeVar("S", bound=TaskSettings)
E = TypeVar("E", bound=Example)
E_co = TypeVar("E_co", bound=Example, covariant=True)
P = TypeVar("P", bound=Mapping[str, object])


@dataclass(frozen=True)
class Split(Generic[E_co]):
    """The examples of one or several splits, and the sources of their word pieces and regions."""

    examples: Sequence[E_co]
    sources: Sources

    def take(self, numbers: Array) -> list[E_co]:
        """Returns the examples at these positions."""
        return [self.examples[number] for number in numbers.tolist()]


class Task(ABC, Generic[S, E, P]):
    """A downstream task with its settings (S), its examples (E) and its predictions (P: dicts of JSON values)."""

    name: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    head_type: ClassVar[type[TaskHead]]
    has_parts: ClassVar[bool] = False
    """whether several models that were trained on a part each predict a split together"""
    released_columns: ClassVar[tuple[str, ...] | None] = None
    """columns of the released TSV files with regions in every line; None if the task has no such files"""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def metric(self) -> str:
        """The score that chooses the best model. Higher is better."""

    # -------------------------------------------------------------------------------------------------------- files

    @abstractmethod
    def read(self, data: Path, split: str) -> Sequence[E]:
        """Returns the examples of a split in the order of its file.

        Args:
            data: folder of the official files.
            split: one of the official names, or the name of a released TSV file in the folder.

        Raises:
            InputError: a file is missing or damaged, or there is no such split.
        """

    def with_columns(self, columns: Mapping[str, str]) -> Self:
        """Returns the task that reads tables of captions whose columns have these names.

        Raises:
            InputError: the task reads no tables of captions.
        """
        if columns:
            raise InputError(f"{self.name} reads official files and no tables of captions; leave out --columns")
        return self

    def open_regions(self, data: Path, split: str, given: RegionSource | None) -> RegionSource:
        """Returns the regions of a split: those in its lines if it is a released TSV file, else the given ones.

        Raises:
            InputError: no regions were given, and the split brings none.
        """
        if self.released_columns is not None and is_released(split):
            return LineRegions(data / split, self.released_columns)
        if given is None:
            raise InputError(f"{data}: {split} has no region features of its own; give --regions")
        return given

    def rename_regions(self, regions: RegionSource, examples: Sequence[E]) -> RegionSource:  # noqa: ARG002
        """Returns the regions under the image ids of the examples. Folders of regions may use other names."""
        return regions

    @abstractmethod
    def write(self, predictions: Sequence[P], path: Path) -> None:
        """Writes the file that the benchmark's server takes."""

    @abstractmethod
    def read_predictions(self, path: Path) -> Sequence[P]:
        """Reads a file that `write` made, or anyone's file of the same format.

        Raises:
            InputError: the file has another format.
        """

    @abstractmethod
    def evaluate(self, predictions: Sequence[P], examples: Sequence[E]) -> dict[str, float]:
        """Returns the official scores by name, between 0 and 1. `metric` is one of them.

        Raises:
            InputError: the predictions are not those of the examples, or the labels of the split are not public.
        """

    def check_labels(self, examples: Sequence[E]) -> None:
        """Checks that `evaluate` can score predictions of the examples, before anything is predicted.

        Raises:
            InputError: the labels of the split are not public.
        """

    # ----------------------------------------------------------------------------------------------------- training

    def fit(self, examples: Sequence[E]) -> Self:  # noqa: ARG002
        """Returns the task with what it learns from the training examples before training (VQA: its answers).

        Raises:
            InputError: the task cannot be trained on these examples.
        """
        return self

    @property
    def files(self) -> Sequence[Path]:
        """The files that the settings name and that training reads."""
        return ()

    def check_files(self) -> None:
        """Checks that `files` are there, before anything is opened.

        Raises:
            InputError: one is missing. The message says how to make it.
        """

    def make_head(self, config: ModelConfig) -> TaskHead:
        """Makes the head with random weights."""
        return self.head_type(config)

    @abstractmethod
    def collate(self, split: Split[E], numbers: Array, random: Sequence[np.random.Generator] | None) -> TaskBatch:
        """Reads some examples and pads them to a batch.

        Args:
            split: the split of the examples.
            numbers: int64 [B], positions in ``split.examples``. B may be 0, as a rank's share of a short batch.
            random: in training, a generator for each example, which does not depend on the number of ranks and
                workers. None when predicting.
        """

    @abstractmethod
    def count_targets(self, batch: TaskBatch) -> int:
        """Returns the number of targets of a batch. The loss is divided by that of the global batch."""

    @abstractmethod
    def compute_loss(self, logits: Tensor, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Returns the loss, summed over the targets of a batch, and the number of targets that were met: two scalars.

        Args:
            logits: float32, what the head returns. If the batch is empty, the loss is 0 with a gradient of 0.
            batch: the batch, on the same device.
        """

    def compute_loss_weight(self, batch_size: int) -> float:  # noqa: ARG002
        """Returns the factor of the mean loss, given the size of the global batch."""
        return 1.0

    # --------------------------------------------------------------------------------------------------- predicting

    @abstractmethod
    def predict(self, logits: Tensor, batch: TaskBatch, examples: Sequence[E]) -> list[P]:
        """Returns one prediction for each example of a batch.

        Args:
            logits: float32 on the CPU, what the head returns.
            batch: the batch.
            examples: its examples.
        """

    def infer(self, model: FineTunedModel, split: Split[E], *, batch_size: int, world: DistributedContext) -> list[P]:
        """Predicts a whole split, in its order. The ranks share the work; each returns all predictions.

        Args:
            model: a model in evaluation mode, on the device of ``world``. All ranks call it
                equally often.
            split: the split.
            batch_size: examples of a batch, on each rank.
            world: the ranks.

        Raises:
            CollectiveError: a rank cannot read its share of the split.
        """
        own: list[tuple[int, P]] = []
        batches = -(-len(split.examples) // batch_size)
        with progress("predict", batches, "batch") as advance:
            for first in range(0, batches, world.size):
                start = (first + world.rank) * batch_size
                numbers = np.arange(start, min(start + batch_size, len(split.examples)))
                batch = world.together(partial(self.collate, split, numbers, None))
                with torch.no_grad():
                    logits = model(**batch.to(world.device).inputs).to("cpu", torch.float32)
                own += zip(numbers.tolist(), self.predict(logits, batch, split.take(numbers)), strict=True)
                advance(min(world.size, batches - first))
        found = sorted(chain.from_iterable(world.gather(own)), key=itemgetter(0))
        return [prediction for _, prediction in found]


AnyTask = Task[Any, Any, Any]
"""A task where code works with all tasks alike."""
