"""The interface between the loop and what it trains: a model, its data and its losses (AlgoPerf's "workload")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward
    from pretrain.training.distributed import DistributedContext


@dataclass(frozen=True)
class Scores:
    """Sums over the targets of each objective, float64 [objectives]."""

    loss: Tensor
    correct: Tensor
    """predictions that are right; NaN for an objective whose predictions are not right or wrong, as in a regression"""
    count: Tensor
    """targets"""


class MicroBatch(Protocol):
    """The samples that a rank passes through the model at once; there may be none."""

    def samples(self) -> int:
        """Counts the samples."""
        ...

    def tokens(self) -> int:
        """Counts the text positions that are no padding."""
        ...

    def to(self, device: torch.device) -> Self:
        """Copies the micro-batch to a device."""
        ...


BatchT = TypeVar("BatchT", bound=MicroBatch)


class Workload(Protocol[BatchT]):
    """A model, its data and its losses.

    A loss is a sum over the targets of a micro-batch. The loop divides it by the number of targets in the global batch,
    so gradients do not depend on how the batch is split over ranks and micro-batches.
    """

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        ...

    @property
    def objectives(self) -> Sequence[str]:
        """Names of the losses, in the order of all tensors of `Scores`."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """The weight of each objective in the loss."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        ...

    @property
    def guaranteed_metrics(self) -> Sequence[str]:
        """Metrics that `evaluate` always returns. Only an evaluation tells whether there are others."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """Returns what a resumed run must share with the run that wrote the checkpoint, beside the recipe."""
        ...

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns an optimiser over the model's parameters. The loop clips the gradient before each step."""
        ...

    def prepare_step(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
        """Sets what the optimiser takes from the step, counted from 0, and returns the learning rate for the log."""
        ...

    def dataset(self, rank: int, ranks: int) -> Dataset[Sequence[BatchT]]:
        """Returns the micro-batches of a rank by step. Item i is for step i, for any i of the run."""
        ...

    def count_targets(self, batch: BatchT) -> Tensor:
        """Counts the targets of each objective, float64 [objectives]."""
        ...

    def score(self, model: nn.Module, batch: BatchT) -> Scores:
        """Runs a forward pass; ``loss`` carries the gradient. All parameters take part in it, even without a target."""
        ...

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder of the model in place. ``say`` gets messages for the user."""
        ...

    def flops(self, batch: BatchT) -> float:
        """Returns the multiplications and additions of the forward pass, padding included; 0 if not known."""
        ...

    def sample_names(self, step: int, rank: int, ranks: int) -> Sequence[Sequence[str]]:
        """Names the samples of each micro-batch of a rank for a message."""
        ...

    def evaluate(self, model: nn.Module, world: DistributedContext) -> Mapping[str, float]:
        """Returns the metrics of the model, which is in evaluation mode. They are the same on all ranks.

        Without held-out data there are none.

        All ranks call the model equally often: with ZeRO 3 each call is a collective operation.
        """
        ...

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes the model for its users; an interrupted export must not look complete.

        Args:
            weights: float32 on the CPU, by parameter name.
            folder: to write to.
        """
        ...

    def write_card(self, folder: Path, metrics: Mapping[str, float], step: int) -> None:
        """Writes the card of an exported model.

        Args:
            folder: of the model.
            metrics: what `evaluate` returned of these very weights; empty where it was not called.
            step: the steps that were trained.
        """
        ...
