"""What a run takes, from its recipe and the index of its shards alone: length, padding, memory and time."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parsers.command import InputError, progress
from pretrain.data.division import Division, divide
from pretrain.data.order import BatchPlan
from pretrain.data.pairs import PairLengths
from pretrain.model.config import ModelConfig
from pretrain.recipe import PretrainRecipe, model_config
from pretrain.training.settings import REDUCE_BUCKET_ELEMENTS
from shards.sample_reader import SampleReader

if TYPE_CHECKING:
    import torch

    from pretrain.model.costs import PairCosts

ZERO_STAGES = range(4)

# PyTorch is imported in the functions that need it: it takes seconds, and --help should answer at once.


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long a run is."""

    steps: int
    steps_per_epoch: int
    samples: int
    """pairs that are seen; each epoch's short last batch counts as it is"""
    epochs: float
    """samples seen over samples of an epoch"""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank at a ZeRO stage (arXiv 1910.02054, section 5), as DeepSpeed holds them."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments in fp32, and the fp32 weights beside those of the model"""
    activations: int
    exchange: int
    """the buffer through which ZeRO exchanges gradients"""
    update: int
    """copies of the gradients that the optimiser's step makes: in fp32, and with ZeRO in the model's type as well"""

    @property
    def total(self) -> int:
        """The most that is held at a time: activations are gone when the optimiser steps."""
        return self.weights + self.optimizer + self.exchange + max(self.activations, self.gradients + self.update)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The first global batches of a run, and what its model costs."""

    recipe: PretrainRecipe
    length: RunLength
    batches: list[PairLengths]
    parameters: int
    costs: PairCosts
    dtype: torch.dtype
    """of weights and activations"""

    @classmethod
    def of(cls, recipe: PretrainRecipe, shards: SampleReader, batches: int) -> Simulation:
        """Simulates the first ``batches`` global batches, or all if the run has fewer. Reads no tar.

        Raises:
            InputError: the shards are empty or do not fit the recipe.
        """
        import torch

        from pretrain.model.costs import PairCosts

        if len(shards) == 0:
            raise InputError(f"{shards.location}: has no samples")
        size, plan = model_config(recipe, shards), BatchPlan.of(recipe, shards)
        dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        steps = recipe.total_steps(plan.steps_per_epoch)
        lengths = []
        with progress("simulate", min(batches, steps), "batch") as advance:
            for step in range(min(batches, steps)):
                lengths.append(plan.measure(plan.batch(step)))
                advance(1)
        costs = PairCosts.of(size, dtype, checkpointing=recipe.gradient_checkpointing)
        return cls(recipe, measure_run(steps, plan), lengths, count_parameters(size), costs, dtype)

    def divide(self, ranks: int) -> Division:
        """Divides the batches as the trainer does."""
        return divide(self.batches, ranks=ranks, accumulation=self.recipe.accumulation)

    def estimate_memory(self, division: Division, ranks: int) -> list[Memory]:
        """Returns the memory of the fullest rank at each of `ZERO_STAGES`."""
        activations = round(float(self.costs.saved_bytes_at(*division.sizes).max()))
        return [
            estimate_memory(
                self.parameters,
                stage=stage,
                ranks=ranks,
                dtype=self.dtype,
                activations=activations,
                offload=self.recipe.offload_optimizer,
            )
            for stage in ZERO_STAGES
        ]


def measure_run(steps: int, plan: BatchPlan) -> RunLength:
    """Returns the length of a run of so many steps."""
    seen = plan.epochs.pairs_before(steps)
    return RunLength(steps, plan.steps_per_epoch, seen, seen / plan.epochs.pairs_per_epoch)


def count_parameters(config: ModelConfig) -> int:
    """Returns the number of parameters of the encoder and the pretraining heads; allocates none of them."""
    import torch

    from pretrain.model.heads import ErnieViLForPreTraining

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ErnieViLForPreTraining(config).parameters())


def estimate_memory(
    parameters: int, *, stage: int, ranks: int, dtype: torch.dtype, activations: int, offload: bool = False
) -> Memory:
    """Returns the memory of a rank at a ZeRO stage.

    Stage 1 divides the states of the optimiser among the ranks, 2 the gradients as well, 3 the weights too. DeepSpeed
    keeps a second, fp32 copy of the weights under bf16, and in fp32 from stage 1 on.

    Example: 1,000 parameters in bf16 on 4 ranks at stage 2 have 2,000 bytes of weights, 500 of gradients, 3,000 of
    optimiser states (a quarter of 12 bytes each), and 1,500 bytes of copies in the optimiser's step.

    Args:
        parameters: of the model.
        stage: of ZeRO.
        ranks: processes that train together.
        dtype: of weights and activations.
        activations: bytes that the fullest rank keeps for a backward pass.
        offload: whether the optimiser and its step are on the host, from stage 1 on.
    """

    def share(divided: bool) -> int:
        return -(-parameters // ranks) if divided else parameters

    half = dtype.itemsize < 4
    states = 12 if half or stage >= 1 else 8
    copies = 6 if half and stage >= 1 else 4
    on_device = not (offload and stage >= 1)
    return Memory(
        stage=stage,
        weights=dtype.itemsize * share(stage >= 3),
        gradients=dtype.itemsize * share(stage >= 2),
        optimizer=on_device * states * share(stage >= 1),
        activations=activations,
        exchange=(stage >= 1) * dtype.itemsize * REDUCE_BUCKET_ELEMENTS,
        update=on_device * copies * share(stage >= 1),
    )


# ---------------------------------------------------------------------------------------------------------------- time


def read_throughput(folder: Path) -> float:
    """Returns the samples per second of a run: the median over the lines of its ``metrics.jsonl``.

    Raises:
        InputError: the file cannot be read, or no line has ``samples_per_second``.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [float(line["samples_per_second"]) for line in lines if "samples_per_second" in line]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as the metrics of a run: {error}") from error
    if not found:
        raise InputError(f"{path}: no line has samples_per_second; name a run that has logged a step")
    return statistics.median(found)


def hours_at_throughput(samples: int, *, throughput: float, measured_ranks: int, ranks: int) -> float:
    """Returns the hours of a run whose ranks are each as fast as those that were measured.

    Args:
        samples: pairs of the run.
        throughput: pairs per second of ``measured_ranks`` together.
        measured_ranks: devices of the measurement.
        ranks: devices of the run.
    """
    return samples / (throughput / measured_ranks * ranks) / 3600


def hours_at_peak(division: Division, costs: PairCosts, *, steps: int, peak_tflops: float, share: float) -> float:
    """Returns the hours of a run where each rank reaches a share of its peak, and a step waits for its slowest rank.

    The backward pass counts twice the forward pass.
    """
    slowest = costs.flops_at(*division.sizes).sum(2).max(1).mean()
    return float(3 * slowest * steps / (peak_tflops * 1e12 * share) / 3600)
