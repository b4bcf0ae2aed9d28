"""What a downstream task is: how it is read, collated, scored, measured and written.

A task is one file in `finetune.tasks` with a class on `Task`, named in `finetune.tasks.TASKS`; docs/tasks.md adds
one from scratch. All that is about training (ranks, precision, resume, logs) is elsewhere and the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from finetune.heads import TaskHead
from finetune.inputs import Batch, Images, Sources
from parsers.command import InputError, progress
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from shards.schema import Array

if TYPE_CHECKING:
    from pretrain.training.distributed import World

Prediction = dict[str, Any]
"""What is predicted for one example: JSON values."""


class Settings(BaseModel):
    """The section ``task`` of a recipe, kept with the fine-tuned model: what collating and the head depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_text: Annotated[int, Field(ge=3)] = 64
    """positions of a text with [CLS] and [SEP]; the rest is left out"""
    as_released: bool = False
    """repeat the quirks of the released code that change scores (listed in docs/tasks.md)"""

    @property
    def longest_text(self) -> int:
        """Positions of the longest text that is made."""
        return self.max_text


class Example(Protocol):
    """One thing to predict: a question, an expression, a caption. Small: features are read when it is collated."""

    @property
    def image_id(self) -> str:
        """Of its regions."""
        ...


S = TypeVar("S", bound=Settings)
E = TypeVar("E", bound=Example)


@dataclass(frozen=True)
class Split(Generic[E]):
    """The examples of a split, and where their word pieces and regions come from."""

    examples: Sequence[E]
    sources: Sources

    def take(self, numbers: Array) -> list[E]:
        """Some of the examples."""
        return [self.examples[number] for number in numbers.tolist()]


class Task(ABC, Generic[S, E]):
    """A downstream task."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def metric(self) -> str:
        """The score by which the best model is chosen; the higher the better."""

    # -------------------------------------------------------------------------------------------------------- files

    @abstractmethod
    def read(self, data: Path, split: str) -> Sequence[E]:
        """The examples of a split, in the order of its file.

        Args:
            data: folder of the official files.
            split: one of the official names, or the name of a released TSV file in the folder.

        Raises:
            InputError: a file is missing or damaged, or the split unknown.
        """

    def images(self, data: Path, split: str, regions: Images | None) -> Images:
        """The regions of a split: those that were given, unless a released TSV brings its own.

        Raises:
            InputError: there are none.
        """
        if regions is None:
            raise InputError(f"{data}: {split} has no region features of its own; give --regions")
        return regions

    def named(self, regions: Images, examples: Sequence[E]) -> Images:  # noqa: ARG002
        """Regions under the image ids of the examples, where folders of regions may have others."""
        return regions

    @abstractmethod
    def write(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Writes the file that the benchmark's server takes."""

    @abstractmethod
    def read_predictions(self, path: Path) -> Sequence[Prediction]:
        """What `write` wrote, or anyone's file in the same format.

        Raises:
            InputError: it is no such file.
        """

    @abstractmethod
    def evaluate(self, predictions: Sequence[Prediction], examples: Sequence[E]) -> dict[str, float]:
        """The official scores by name, between 0 and 1; `metric` is one of them.

        Raises:
            InputError: predictions and examples do not fit, or the labels of the split are not public.
        """

    # ----------------------------------------------------------------------------------------------------- training

    def fitted(self, examples: Sequence[E]) -> Self:  # noqa: ARG002
        """The task with what it takes from the training examples (VQA: its answers) in its settings.

        Raises:
            InputError: the examples cannot be learned from.
        """
        return self

    @property
    def files(self) -> Sequence[Path]:
        """Those that the settings name and training reads."""
        return ()

    @abstractmethod
    def make_head(self, config: ModelConfig) -> TaskHead:
        """The head, with random weights."""

    @abstractmethod
    def collate(self, split: Split[E], numbers: Array, random: Sequence[np.random.Generator] | None) -> Batch:
        """Reads and pads some examples.

        Args:
            split: what they are from.
            numbers: int64 [B], positions in ``split.examples``. B may be 0: a rank's share of a short batch.
            random: of each example in training, the same for any number of ranks and workers; None when predicting.
        """

    @abstractmethod
    def count_targets(self, batch: Batch) -> int:
        """How many targets a batch has. Losses are divided by those of the global batch."""

    @abstractmethod
    def score(self, scores: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, summed over the targets of a batch, and how many of them were met; scalars.

        Args:
            scores: what the head returns. There may be none; the loss is then 0, with a gradient of 0.
            batch: on the same device.
        """

    def weight(self, batch_size: int) -> float:  # noqa: ARG002
        """What the mean loss is multiplied with, given the size of the global batch."""
        return 1.0

    # --------------------------------------------------------------------------------------------------- predicting

    @abstractmethod
    def predict(self, scores: Any, batch: Batch, examples: Sequence[E]) -> list[Prediction]:
        """One prediction for each of a batch's examples.

        Args:
            scores: what the head returns, float32 on the CPU.
            batch: that was scored.
            examples: of the batch.
        """

    def infer(self, model: nn.Module, split: Split[E], *, batch_size: int, world: World) -> list[Prediction]:
        """Predicts a whole split, in its order; the ranks share it, and each has all predictions at the end.

        Args:
            model: a `FineTuned` in evaluation mode, on the device of ``world``. All ranks call it equally often.
            split: what to predict.
            batch_size: examples of a batch, on each rank.
            world: the ranks.
        """
        own: list[tuple[int, Prediction]] = []
        batches = -(-len(split.examples) // batch_size)
        with progress("predict", batches, "batch") as advance:
            for first in range(0, batches, world.size):
                start = (first + world.rank) * batch_size
                numbers = np.arange(start, min(start + batch_size, len(split.examples)))
                batch = self.collate(split, numbers, None)
                with torch.no_grad():
                    scores = floats(model(**batch.to(world.device).inputs), torch.device("cpu"))
                own += zip(numbers.tolist(), self.predict(scores, batch, split.take(numbers)), strict=True)
                advance(min(world.size, batches - first))
        found = sorted(chain.from_iterable(world.gather(own)), key=itemgetter(0))
        return [prediction for _, prediction in found]


def floats(scores: Any, device: torch.device | None = None) -> Any:
    """The scores of a head in float32: a tensor, or some."""
    return scores.to(device, torch.float32) if isinstance(scores, Tensor) else tuple(floats(s, device) for s in scores)


class FineTuned(nn.Module):
    """The encoder under the head of a task."""

    def __init__(self, config: ModelConfig, head: TaskHead) -> None:
        super().__init__()
        self.ernie_vil = ErnieViL(config)
        self.head = head

    def forward(self, **inputs: Tensor | None) -> Any:
        """What the head makes of a batch; the arguments are those of `ErnieViL.forward`."""
        return self.head(self.ernie_vil(**inputs))
