"""Pretraining as a workload of the loop: the model, the batch plan, the objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from parsers.command import console, pluralize, say
from pretrain.data.batches import Collator, PretrainBatch, StepDataset
from pretrain.data.order import BatchPlan, pairs_per_batch
from pretrain.evaluation import Result, evaluate, format_share
from pretrain.model.card import ModelFacts, describe_recipe, write_card
from pretrain.model.costs import PairCosts
from pretrain.model.folder import export, start_from
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.model.text_weights import TextInitialisation, init_text
from pretrain.objectives import count_targets, score
from pretrain.recipe import OBJECTIVES, PretrainRecipe, check_negatives, model_config
from pretrain.training.distributed import DistributedContext
from pretrain.training.log import print_banner
from pretrain.training.trainer import Trainer
from pretrain.training.workload import Scores
from shards.regions.detector import DetectorRecord
from shards.sample_reader import SampleReader
from shards.schema import Array

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward


class Pretraining:
    """Scene-graph prediction, masked words and regions, and image-text matching on shards."""

    objectives = OBJECTIVES

    def __init__(
        self, recipe: PretrainRecipe, shards: SampleReader, held_out: SampleReader | None, device_type: str
    ) -> None:
        self.recipe, self.shards, self.held_out = recipe, shards, held_out
        check_negatives(recipe, shards)
        self.config = model_config(recipe, shards)
        torch.manual_seed(recipe.seed)  # the same initial weights on every rank
        self.model = ErnieViLForPreTraining(self.config)
        self.model.ernie_vil.gradient_checkpointing = recipe.gradient_checkpointing
        self.weights = [getattr(recipe.active_weights, name) for name in OBJECTIVES]
        self._plan = BatchPlan.of(recipe, shards)
        self._collator = Collator.of(recipe, shards, device_type)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.pairs_per_epoch = self._plan.epochs.pairs_per_epoch
        self.guaranteed_metrics = ()

    def fingerprint(self) -> dict[str, object]:
        """Returns the checksum of the shards' manifest and the configuration of the model."""
        unknown = {"token_match"} if self.config.token_match is None else None  # earlier releases did not know it
        return {"manifest": self.shards.checksum, "model": self.config.model_dump_json(exclude=unknown)}

    def make_optimizer(self) -> torch.optim.AdamW:
        """Returns AdamW, which does not decay biases and layer norms."""
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

    def dataset(self, rank: int, ranks: int) -> StepDataset:
        """Returns a rank's micro-batches of each step."""
        return StepDataset(self._plan, self._collator, rank=rank, ranks=ranks, accumulation=self.recipe.accumulation)

    def count_targets(self, batch: PretrainBatch) -> Tensor:
        """Counts the targets of each objective, float64 [objectives]."""
        return count_targets(batch)

    def score(self, model: nn.Module, batch: PretrainBatch) -> Scores:
        """Computes the losses of all objectives."""
        return score(model(**batch.inputs()), batch)

    @cached_property
    def _costs(self) -> PairCosts:
        return PairCosts.of(self.config, torch.float32)

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder."""
        from pretrain.model.compilation import CompiledForward  # late: PyTorch's compiler takes seconds to import

        return CompiledForward(self.model.ernie_vil, say)

    def flops(self, batch: PretrainBatch) -> float:
        """Returns the FLOPs of the encoder's forward pass; heads are not counted."""
        sizes = len(batch.matched), batch.token_ids.shape[1], batch.features.shape[1]
        return float(self._costs.flops_at(*(np.array(size) for size in sizes)))

    def sample_names(self, step: int, rank: int, ranks: int) -> list[list[str]]:
        """Names the pairs of each micro-batch: the key of the image, and the caption that is shown with it."""

        def key(place: Array) -> str:
            shard, row = place[:2].tolist()
            return str(self.shards.shard(shard).keys[row])

        return [
            [
                f"image {key(image)}, {'false ' if negative else ''}caption {text[2]} of {key(text)}"
                for image, text, negative in zip(pairs.image, pairs.text, pairs.negative, strict=True)
            ]
            for pairs in self.dataset(rank, ranks).pairs(step)
        ]

    def evaluate(self, model: nn.Module, world: DistributedContext) -> dict[str, float]:
        """Returns loss and accuracy on the held-out shards, and those of guessing."""
        if self.held_out is None:
            return {}
        results = evaluate(model, self.held_out, self.recipe, images=self.recipe.images, world=world)
        return {
            f"held-out/{what}/{name}": value
            for name, result in results.items()
            for what, value in result.to_dict().items()
        }

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes `config.json`, `model.safetensors`, `vocab.txt` and, if the shards say it, `detector.json`."""
        export(weights, self.config, self.shards.vocabulary_bytes, folder)
        if (detector := self.shards.detector) is not None:
            DetectorRecord(detector=detector, feature_size=self.shards.feature_size).save(folder)

    def write_card(self, folder: Path, metrics: Mapping[str, float], step: int) -> None:
        """Writes the card of an exported model."""
        shards, detector, totals = self.shards, self.shards.detector, self.shards.totals
        facts = ModelFacts(
            title="Pretrained ERNIE-ViL",
            purpose="An encoder of a caption and the regions of a picture, with the heads that it was pretrained with.",
            data={
                "shards": f"{pluralize(totals.samples, 'image')}, {pluralize(totals.captions, 'caption')}",
                "checksum of the shards": shards.checksum,
                "detector of the regions": "not known" if detector is None else detector.name,
                "classes of the regions": shards.classes.kind,
            },
            data_name="none" if self.held_out is None else f"held-out shards {self.held_out.checksum[:12]}",
            recipe=describe_recipe(self.recipe),
        )
        write_card(folder, facts, metrics, step)


def pretrain(
    recipe: PretrainRecipe,
    shards: SampleReader,
    held_out: SampleReader | None,
    out: Path,
    *,
    resume: bool,
    start: Path | None = None,
    text_from: str | None = None,
) -> None:
    """Trains in an initialised process group, and prints the results.

    Args:
        recipe: of the run.
        shards: to train on.
        held_out: shards to evaluate on.
        out: folder of the run.
        resume: whether to continue from the latest checkpoint there.
        start: folder of a model to start from (see `pretrain.model.folder.start_from`).
        text_from: a BERT or ERNIE 2.0 for the text stream to start from (see `pretrain.model.text_weights`).
    """
    world = DistributedContext.current()
    workload = Pretraining(recipe, shards, held_out, world.device.type)
    # A checkpoint, if there is one to resume from, takes the place of these weights.
    if start is not None:
        fresh = start_from(workload.model, shards.vocabulary, start)
        if world.rank == 0:
            console.print(f"weights from {start}; initialised at random: {', '.join(fresh) or 'none'}", soft_wrap=True)
    if text_from is not None:
        taken = init_text(workload.model.ernie_vil, text_from)
        if world.rank == 0:
            console.print(make_text_table(taken, text_from))
    pairs = pairs_per_batch(recipe, shards)
    if world.rank == 0 and pairs > (count := workload.pairs_per_epoch):
        say(f"a batch of {pairs:,} pairs is more than the {count:,.0f} of an epoch: batches are smaller than that")
    trainer = Trainer(workload, recipe, out, world, resume=resume)
    totals = shards.totals
    data = {
        "data": f"{pluralize(totals.samples, 'image')}, {pluralize(totals.captions, 'caption')}",
        "batch": f"{pairs:,} pairs, in all {trainer.steps / workload.steps_per_epoch:.1f} epochs",
    }
    print_banner(data, workload.model, world, steps=trainer.steps, done=trainer.step)
    metrics = trainer.train()
    if world.rank == 0:
        if metrics:
            console.print(make_results_table(metrics))
        console.print(f"model: {out / 'model'}")


def make_results_table(metrics: Mapping[str, float]) -> Table:
    """Returns a table of held-out loss and accuracy beside those of guessing by frequency."""
    table = Table("objective", "loss", "guessing", "accuracy", "guessing", "targets", title="Held-out images")
    table.caption = "guessing: by the frequencies of these very targets, the best without looking"
    for name in OBJECTIVES:
        of_name = {what: metrics.get(f"held-out/{what}/{name}") for what in (field.name for field in fields(Result))}
        if of_name["targets"] is None:
            continue
        table.add_row(
            name,
            f"{of_name['loss']:.3f}",
            f"{of_name['guess_loss']:.3f}",
            format_share(of_name["accuracy"]),
            format_share(of_name["guess_accuracy"]),
            f"{of_name['targets']:,.0f}",
        )
    return table


def make_text_table(taken: TextInitialisation, source: str) -> Table:
    """Returns a table of what was and was not initialised from another model."""
    table = Table(title=f"Text stream from {source}", title_justify="left", show_header=False)
    table.add_row("copied", pluralize(len(taken.copied), "parameter"))
    table.add_row("copied in part", "\n".join(taken.partly) or "none")
    table.add_row(
        "initialised at random",
        f"{pluralize(len(taken.untouched), 'parameter')} (image stream, co-layers, poolers, heads)",
    )
    table.add_row("not used", ", ".join(taken.unused) or "none")
    return table
