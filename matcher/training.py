"""Fine-tuning of pair matching on own photos and captions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch

from finetune.data import TaskFiles
from finetune.inputs import TaskBatch
from finetune.tasks.retrieval.task import Retrieval, RetrievalSettings
from finetune.training.finetuning import FineTuning, open_workload
from finetune.training.recipe import FineTuneRecipe
from parsers.command import pluralize, say
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from pretrain.model.folder import export_untrained
from pretrain.training.distributed import DistributedContext, with_process_group
from pretrain.training.trainer import Trainer
from shards.regions.table import RegionsInfo
from shards.stage_folder import parts_of
from shards.vocabulary import read_vocabulary

RECIPES = Path(__file__).resolve().parents[1] / "configs/finetune/retrieval"
SMALL, LARGE = RECIPES / "own-small.yaml", RECIPES / "own.yaml"
SMALL_WIDTH = 256
"""A model whose texts are narrower takes the recipe for small models."""
FROM_NOTHING = "toy"
"""The size of a model that starts from nothing: what a laptop trains in minutes."""


def write_start(vocabulary: Path, regions: Path, folder: Path) -> None:
    """Writes a small model with random weights that fits a vocabulary and regions."""
    info = RegionsInfo.from_file(parts_of(regions)[0])
    sizes = {"vocab_size": len(read_vocabulary(vocabulary)), "v_feature_size": info.feature_size}
    config = ModelConfig.of_size(FROM_NOTHING).model_copy(update=sizes)
    export_untrained(config, vocabulary.read_bytes(), folder, seed=0)


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


def train(start: Path, data: TaskFiles, recipe: FineTuneRecipe, counts: Counts, out: Path) -> None:
    """Trains, or goes on where an earlier run was stopped; the model lies in ``out/model`` afterwards.

    Raises:
        InputError: the data do not fit the model, or ``out`` holds another run.
    """
    assert isinstance(recipe.task, RetrievalSettings)
    task = Retrieval(recipe.task)

    def work() -> None:
        world = DistributedContext.current()
        workload = open_workload(task, recipe, start, data, world.device.type)
        seconds = _measure_step(workload, world.device)
        trainer = Trainer(workload, workload.recipe, out, world, resume=True)
        _print_banner(workload, trainer, counts, seconds)
        trainer.train()

    with_process_group(work, out)


def _print_banner(workload: FineTuning, trainer: Trainer[TaskBatch], counts: Counts, seconds: float) -> None:
    """Says what is trained on what, and how long it will take if a step takes so many seconds."""
    recipe = workload.recipe
    assert isinstance(recipe.task, RetrievalSettings)
    cuda = trainer.world.device.type == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"CPU, {pluralize(torch.get_num_threads(), 'thread')}"
    parameters = sum(parameter.numel() for parameter in workload.model.parameters())
    left = timedelta(seconds=round((trainer.steps - trainer.step) * seconds))
    say(f"photos:     {counts.photos[0]:,} to learn from, {counts.photos[1]:,} to test on")
    say(f"captions:   {counts.captions[0]:,} to learn from, {counts.captions[1]:,} to test on")
    say(f"parameters: {parameters:,}")
    say(f"device:     {device}")
    say(f"batch:      {pluralize(recipe.batch_size, 'pair')}, each with {len(recipe.task.negatives)} false ones")
    say(f"steps:      {trainer.steps:,}" + (f", {trainer.step:,} of them done before" if trainer.step else ""))
    say(f"time:       about {left} (hours, minutes, seconds)")


def _measure_step(workload: FineTuning, device: torch.device) -> float:
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
