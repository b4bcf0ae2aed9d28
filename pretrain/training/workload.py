"""What the loop asks of the work it trains: a model, its data and its losses (a workload in AlgoPerf's sense)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward
    from pretrain.training.distributed import DistributedContext


@dataclass(frozen=True)
class Scores:
    """Per objective, float64 [objectives]: summed loss, correct predictions, number of targets.

    ``correct`` is NaN where a prediction is not right or wrong, as in a regression.
    """

    loss: Tensor
    correct: Tensor
    count: Tensor


class MicroBatch(Protocol):
    """What a rank passes through the model at a time; it may hold no sample at all."""

    def samples(self) -> int:
        """How many there are."""
        ...

    def tokens(self) -> int:
        """Text positions that are no padding."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        ...


BatchT = TypeVar("BatchT", bound=MicroBatch)


class Workload(Protocol[BatchT]):
    """A model, its data and its losses.

    A loss is a sum over the targets of a micro-batch. The loop divides it by the number of targets in the global batch,
    so gradients do not depend on how the batch is split over ranks and micro-batches.
    """

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def objectives(self) -> Sequence[str]:
        """Names of the losses, in the order of all tensors of `Scores`."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """Of the objectives in the loss."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        ...

    @property
    def guaranteed_metrics(self) -> Sequence[str]:
        """What `evaluate` surely returns; whether there are others it takes an evaluation to know."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """What a resumed run must have in common with the one that wrote the checkpoint, beside the recipe."""
        ...

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser over the model's parameters. The loop clips the gradient before its steps."""
        ...

    def prepare_step(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
        """Sets all that the optimiser takes from the step, counted from 0; returns the learning rate to log."""
        ...

    def dataset(self, rank: int, ranks: int) -> Dataset[Sequence[BatchT]]:
        """The micro-batches of a rank by step: item i is what it takes in step i, for any i of the run."""
        ...

    def count_targets(self, batch: BatchT) -> Tensor:
        """float64 [objectives]: the targets of each objective."""
        ...

    def score(self, model: nn.Module, batch: BatchT) -> Scores:
        """A forward pass; ``loss`` carries the gradient. All parameters take part in it, also without a target."""
        ...

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder of the model in place; ``say`` is told what becomes of it."""
        ...

    def flops(self, batch: BatchT) -> float:
        """Multiplications and additions of the forward pass, padding included; 0 if not known."""
        ...

    def sample_names(self, step: int, rank: int, ranks: int) -> Sequence[Sequence[str]]:
        """What to call the samples of each of a rank's micro-batches in a message."""
        ...

    def evaluate(self, model: nn.Module, world: DistributedContext) -> Mapping[str, float]:
        """The metrics of the model, which is in evaluation mode; the same on all ranks. Empty without held-out data.

        All ranks call the model equally often: with ZeRO 3 each call is a collective operation.
        """
        ...

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes the model for its users, whole or not at all. ``weights`` are in float32, by parameter name."""
        ...
