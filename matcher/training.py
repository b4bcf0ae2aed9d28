"""Training on own photos and captions. Both parts run in one process group: DeepSpeed cannot join a second one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.data import TaskFiles
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from finetune.training.finetuning import FineTuning, open_workload
from finetune.training.recipe import FineTuneRecipe
from parsers.command import pluralize, say
from pretrain.data.order import pairs_per_batch
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from pretrain.pretraining import Pretraining
from pretrain.recipe import REGION_TARGETS, PretrainRecipe
from pretrain.training.distributed import DistributedContext
from pretrain.training.log import print_banner
from pretrain.training.trainer import Trainer
from pretrain.training.workload import Workload
from shards.joined import open_sets

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FROM_NOTHING = CONFIGS / "pretrain/own.yaml"
SMALL, LARGE = CONFIGS / "finetune/retrieval/own-small.yaml", CONFIGS / "finetune/retrieval/own.yaml"
SMALL_WIDTH = 256
"""A model whose texts are narrower takes the recipe for small models."""


def load_recipe(start: Path, path: Path | None, settings: Sequence[str]) -> FineTuneRecipe:
    """Reads the recipe: the given one, or the one for models of this size.

    Raises:
        InputError: a key or value is wrong.
    """
    small = ModelConfig.load(start / CONFIG).hidden_size < SMALL_WIDTH
    recipe = path or (SMALL if small else LARGE)
    return FineTuneRecipe.for_task(RetrievalSettings).load(recipe, list(settings))


@dataclass(frozen=True)
class Counts:
    """How many photos and captions there are to learn from and to test on."""

    photos: tuple[int, int]
    captions: tuple[int, int]


def pretrain_small(shards: Path, counts: Counts, out: Path) -> None:
    """Pretrains a small model from nothing on the packed captions, or goes on; it lies in ``out/model`` afterwards.

    Pair matching alone does not begin to learn from random weights. The objectives of pretraining do.
    """
    training = open_sets([str(shards)])
    # Regions that came as files may have no classes, or only the most likely one.
    target = REGION_TARGETS[training.classes.kind][0]
    recipe = PretrainRecipe.load(FROM_NOTHING, [f"region_target={target}"])
    batch = f"{pluralize(pairs_per_batch(recipe, training), 'pair')} with hidden words and regions"
    say("pretraining, because there is no model to start from:")
    _run(lambda device_type: Pretraining(recipe, training, None, device_type), counts, batch, out)


def train(start: Path, data: TaskFiles, recipe: FineTuneRecipe, counts: Counts, out: Path) -> None:
    """Trains pair matching, or goes on where an earlier run was stopped; the model lies in ``out/model`` afterwards.

    Raises:
        InputError: the data do not fit the model, or ``out`` holds another run.
    """
    assert isinstance(recipe.task, RetrievalSettings)
    task = Retrieval(recipe.task)
    batch = f"{pluralize(recipe.batch_size, 'pair')}, each with {len(task.settings.false_pairs)} false ones"
    say("training of pair matching:")
    _run(lambda device_type: open_workload(task, recipe, start, data, device_type), counts, batch, out)


def _run(open_: Callable[[str], FineTuning | Pretraining], counts: Counts, batch: str, out: Path) -> None:
    """Opens a workload for a type of device, says what will be done, and does what is left of it."""

    world = DistributedContext.current()
    workload: Workload[Any] = (opened := open_(world.device.type))
    seconds = _measure_step(workload, world.device)
    trainer = Trainer(workload, opened.recipe, out, world, resume=True)
    data = {
        "photos": f"{counts.photos[0]:,} to learn from, {counts.photos[1]:,} to test on",
        "captions": f"{counts.captions[0]:,} to learn from, {counts.captions[1]:,} to test on",
        "batch": batch,
    }
    print_banner(data, workload.model, world, steps=trainer.steps, done=trainer.step, step_seconds=seconds)
    trainer.train()


def _measure_step(workload: Workload[Any], device: torch.device) -> float:
    """Returns the seconds that a step takes. It computes one twice, since the first is slower, and changes nothing."""
    model, seconds = workload.model.to(device), 0.0
    for _ in range(2):
        started = time.perf_counter()
        for batch in workload.dataset(0, 1)[0]:
            torch.autograd.backward(workload.score(model, batch.to(device)).loss.sum())
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return seconds
