"""Pretraining as a workload of the loop: the model, the batch plan, the objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from parsers.command import console, pluralize
from pretrain.data.batches import Batch, Collator, Steps
from pretrain.data.order import BatchPlan
from pretrain.evaluation import Result, evaluate, percent
from pretrain.model.costs import PairCosts
from pretrain.model.folder import export, start_from
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.model.text_weights import TextInitialisation, init_text
from pretrain.objectives import count_targets, score
from pretrain.recipe import OBJECTIVES, Recipe, model_config
from pretrain.training.distributed import World
from pretrain.training.trainer import Trainer
from pretrain.training.workload import Scores
from shards.reader import ShardSet
from shards.schema import Array

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward


class Pretraining:
    """Scene-graph prediction, masked words and regions, and image-text matching on shards."""

    objectives = OBJECTIVES

    def __init__(self, recipe: Recipe, shards: ShardSet, held_out: ShardSet | None, device_type: str) -> None:
        self.recipe, self.shards, self.held_out = recipe, shards, held_out
        self.config = model_config(recipe, shards)
        torch.manual_seed(recipe.seed)  # the same initial weights on every rank
        self.model = ErnieViLForPreTraining(self.config)
        self.model.ernie_vil.gradient_checkpointing = recipe.gradient_checkpointing
        self.weights = [getattr(recipe.active_weights, name) for name in OBJECTIVES]
        self._plan = BatchPlan.of(recipe, shards)
        self._collator = Collator.of(recipe, shards, device_type)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.sure_metrics = ()

    def identity(self) -> dict[str, Any]:
        """The checksum of the shards' manifest and the size of the model."""
        return {"manifest": self.shards.manifest.checksum, "model": self.config.model_dump_json()}

    def make_optimizer(self) -> torch.optim.AdamW:
        """AdamW; biases and layer norms are not decayed."""
        settings = self.recipe.optimizer
        decayed = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        rest = [parameter for parameter in self.model.parameters() if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)

    def prepare_step(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
        """Sets the learning rate."""
        rate = self.recipe.optimizer.learning_rate_at(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate

    def dataset(self, rank: int, ranks: int) -> Steps:
        """A rank's micro-batches of each step."""
        return Steps(self._plan, self._collator, rank=rank, ranks=ranks, accumulation=self.recipe.accumulation)

    def count_targets(self, batch: Batch) -> Tensor:
        """float64 [objectives]: the targets of each objective."""
        return count_targets(batch)

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """The losses of all objectives."""
        return score(model(**batch.inputs()), batch)

    @cached_property
    def _costs(self) -> PairCosts:
        return PairCosts.of(self.config, torch.float32)

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder."""
        from pretrain.model.compilation import CompiledForward  # late: PyTorch's compiler takes seconds to import

        return CompiledForward(self.model.ernie_vil, say)

    def flops(self, batch: Batch) -> float:
        """Of the encoder."""
        sizes = len(batch.matched), batch.token_ids.shape[1], batch.features.shape[1]
        return float(self._costs.flops_at(*(np.array(size) for size in sizes)))

    def sample_names(self, step: int, rank: int, ranks: int) -> list[list[str]]:
        """The key of each image, and which caption of which image is shown with it."""

        def key(place: Array) -> str:
            shard, row = place[:2].tolist()
            return str(self.shards.shard(shard).keys[row])

        return [
            [
                f"image {key(image)}, caption {text[2]} of {key(text)}"
                for image, text in zip(pairs.image, pairs.text, strict=True)
            ]
            for pairs in self.dataset(rank, ranks).pairs(step)
        ]

    def evaluate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Loss and accuracy on the held-out shards, and what guessing would reach."""
        if self.held_out is None:
            return {}
        results = evaluate(
            model,
            self.held_out,
            self.recipe,
            images=self.recipe.images,
            device=world.device,
            rank=world.rank,
            ranks=world.size,
            all_reduce=world.all_reduce,
        )
        return {
            f"held-out/{what}/{name}": value
            for name, result in results.items()
            for what, value in result.to_dict().items()
        }

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes `config.json`, `model.safetensors` and `vocab.txt`."""
        export(weights, self.config, self.shards.vocabulary_bytes, folder)


def pretrain(
    recipe: Recipe,
    shards: ShardSet,
    held_out: ShardSet | None,
    out: Path,
    *,
    resume: bool,
    start: Path | None = None,
    text_from: str | None = None,
) -> None:
    """Trains in an initialised process group and says what came out.

    Args:
        recipe: how.
        shards: what to train on.
        held_out: what to evaluate on.
        out: folder of the run.
        resume: continue from the latest checkpoint there.
        start: a model whose weights to start from (see `pretrain.model.folder.start_from`).
        text_from: a BERT or ERNIE 2.0 for the text stream to start from (see `pretrain.model.text_weights`).
    """
    world = World.current()
    workload = Pretraining(recipe, shards, held_out, world.device.type)
    # A checkpoint, if there is one to resume from, takes the place of these weights.
    if start is not None:
        fresh = start_from(workload.model, shards.vocabulary, start)
        if world.rank == 0:
            console.print(f"weights from {start}; initialised at random: {', '.join(fresh) or 'none'}", soft_wrap=True)
    if text_from is not None:
        taken = init_text(workload.model.ernie_vil, text_from)
        if world.rank == 0:
            console.print(text_table(taken, text_from))
    metrics = Trainer(workload, recipe, out, world, resume=resume).train()
    if world.rank == 0:
        if metrics:
            console.print(results_table(metrics))
        console.print(f"model: {out / 'model'}")


def results_table(metrics: Mapping[str, float]) -> Table:
    """Held-out loss and accuracy beside those of guessing by frequency."""
    table = Table("objective", "loss", "guessing", "accuracy", "guessing", "targets", title="Held-out images")
    table.caption = "guessing: by the frequencies of these very targets, as well as can be without looking"
    for name in OBJECTIVES:
        of_name = {what: metrics.get(f"held-out/{what}/{name}") for what in (field.name for field in fields(Result))}
        if of_name["targets"] is None:
            continue
        table.add_row(
            name,
            f"{of_name['loss']:.3f}",
            f"{of_name['guess_loss']:.3f}",
            percent(of_name["accuracy"]),
            percent(of_name["guess_accuracy"]),
            f"{of_name['targets']:,.0f}",
        )
    return table


def text_table(taken: TextInitialisation, source: str) -> Table:
    """What was and was not initialised from another model."""
    table = Table(title=f"Text stream from {source}", title_justify="left", show_header=False)
    table.add_row("copied", pluralize(len(taken.copied), "parameter"))
    table.add_row("copied in part", "\n".join(taken.partly) or "none")
    table.add_row(
        "initialised at random",
        f"{pluralize(len(taken.untouched), 'parameter')} (image stream, co-layers, poolers, heads)",
    )
    table.add_row("not used", ", ".join(taken.unused) or "none")
    return table
