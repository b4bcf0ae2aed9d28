"""Fine-tuning a pretrained model on a task: the workload for the training loop of `pretrain.training`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from finetune.data import TaskFiles
from finetune.heads import FineTunedModel
from finetune.inputs import TaskBatch
from finetune.model_folder import save_fine_tuned, start_task_from
from finetune.task import AnyTask, Example, Split
from finetune.training.optimization import group_parameters, prepare_step
from finetune.training.recipe import FineTuneRecipe
from parsers.checksums import sha256_of
from parsers.command import say
from pretrain.data.bucketing import slice_of
from pretrain.model.card import ModelFacts, describe_recipe, write_card
from pretrain.model.config import ModelConfig
from pretrain.model.costs import PairCosts
from pretrain.model.encoder import CONFIG
from pretrain.model.folder import model_folder
from pretrain.training.distributed import DistributedContext
from pretrain.training.log import print_banner
from pretrain.training.settings import Best
from pretrain.training.trainer import Trainer
from pretrain.training.workload import Scores
from shards.random_numbers import generator
from shards.regions.detector import DetectorRecord
from shards.schema import Array
from shards.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward

EVALUATION_BATCH = 64
"""Number of examples, or of pairs in retrieval, that each rank predicts at once."""
_ORDER, _DRAWS = range(2)
"""Purposes of random numbers: the order of an epoch, and the draws of an example."""


class FineTuneDataset(Dataset[Sequence[TaskBatch]]):
    """The micro-batches of a rank by step. An epoch is a permutation of the examples; its last batch may be short."""

    def __init__(
        self, task: AnyTask, split: Split[Example], recipe: FineTuneRecipe, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self._task, self._split, self._recipe = task, split, recipe
        self._rank, self._ranks = rank, ranks
        self.per_epoch = -(-len(split.examples) // recipe.batch_size)
        self._order = lru_cache(2)(self._shuffle)

    def number_examples(self, step: int) -> tuple[int, list[Array]]:
        """Returns the epoch of a step, and for each micro-batch int64, the positions of its examples in the split."""
        epoch, position = divmod(step, self.per_epoch)
        size, parts = self._recipe.batch_size, self._recipe.accumulation
        batch = self._order(epoch)[position * size : (position + 1) * size]
        own = batch[slice_of(len(batch), self._rank, self._ranks)]
        return epoch, [own[slice_of(len(own), part, parts)] for part in range(parts)]

    def __getitem__(self, step: int) -> list[TaskBatch]:
        epoch, parts = self.number_examples(step)
        return [self._collate(epoch, numbers) for numbers in parts]

    def _collate(self, epoch: int, numbers: Array) -> TaskBatch:
        random = [generator(self._recipe.seed, epoch, _DRAWS, number) for number in numbers.tolist()]
        return self._task.collate(self._split, numbers, random)

    def _shuffle(self, epoch: int) -> Array:
        return generator(self._recipe.seed, epoch, _ORDER).permutation(len(self._split.examples))


class FineTuning:
    """A task that is trained on a pretrained model. See `pretrain.training.workload.Workload` for the methods."""

    def __init__(
        self,
        task: AnyTask,
        recipe: FineTuneRecipe,
        start: Path,
        training: Split[Example],
        dev: Split[Example] | None,
        checksums: Mapping[str, Sequence[str]] | None = None,
        detector: DetectorRecord | None = None,
    ) -> None:
        """Builds the model.

        Args:
            task: the task, fitted to the training examples.
            recipe: the recipe of the run.
            start: the folder of the pretrained model.
            training: the examples to learn from.
            dev: the examples to evaluate on.
            checksums: by kind, the checksums of files that must be the same when a run is resumed.
            detector: the detector of the regions, which the model records.
        """
        self.task, self.recipe, self._training, self._dev = task, recipe, training, dev
        self._checksums, self._detector = dict(checksums or {}), detector
        self.config = ModelConfig.load(start / CONFIG)
        if recipe.hidden_dropout is not None:
            self.config = self.config.model_copy(update={"hidden_dropout_prob": recipe.hidden_dropout})
        self._vocabulary = (start / VOCABULARY).read_bytes()
        torch.manual_seed(recipe.seed)  # the same head on every rank
        self.model = FineTunedModel(self.config, task.make_head(self.config))
        self.random_parameters = start_task_from(start, self.model)
        self.model.ernie_vil.gradient_checkpointing = recipe.gradient_checkpointing
        self.objectives = (task.name,)
        self.weights = (task.compute_loss_weight(recipe.batch_size),)
        self.examples = len(training.examples)
        self.steps_per_epoch = FineTuneDataset(task, training, recipe).per_epoch

    def fingerprint(self) -> dict[str, object]:
        """Returns the task's settings, the model's size, and checksums of the examples and of the other files."""
        settings = self.task.settings.model_dump_json()
        model = self.config.model_dump_json()
        examples = fingerprint_examples(self._training.examples)
        return {"task": settings, "model": model, "examples": examples, **self._checksums}

    @property
    def guaranteed_metrics(self) -> Sequence[str]:
        """The metric of the task, if there is a development split."""
        return () if self._dev is None else (f"dev/{self.task.metric}",)

    def make_optimizer(self) -> torch.optim.AdamW:
        """Returns the released optimiser, see `finetune.training.optimization`."""
        settings = self.recipe.optimizer
        groups = group_parameters(self.model.ernie_vil, self.model.head, settings)
        return torch.optim.AdamW(groups, betas=settings.betas, fused=True)

    def prepare_step(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
        """Sets the learning rate of a step and returns it, see `finetune.training.optimization.prepare_step`."""
        rate = self.recipe.optimizer.learning_rate_at(step, steps)
        prepare_step(optimizer, step, rate)
        return rate

    def dataset(self, rank: int, ranks: int) -> FineTuneDataset:
        """Returns the micro-batches of a rank by step."""
        return FineTuneDataset(self.task, self._training, self.recipe, rank=rank, ranks=ranks)

    def count_targets(self, batch: TaskBatch) -> Tensor:
        """Returns float64 [1], the number of targets."""
        return torch.tensor([self.task.count_targets(batch)], dtype=torch.float64, device=batch.device)

    def score(self, model: nn.Module, batch: TaskBatch) -> Scores:
        """Computes the loss of the task."""
        loss, correct = self.task.compute_loss(model(**batch.inputs).float(), batch)
        return Scores(loss.double()[None], correct.detach().double()[None], self.count_targets(batch))

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder."""
        from pretrain.model.compilation import CompiledForward  # late: PyTorch's compiler takes seconds to import

        return CompiledForward(self.model.ernie_vil, say)

    @cached_property
    def _costs(self) -> PairCosts:
        return PairCosts.of(self.config, torch.float32)

    def flops(self, batch: TaskBatch) -> float:
        """Returns the multiplications and additions of the encoder's forward pass."""
        return float(self._costs.flops_at(*(np.array(size) for size in batch.shape)))

    def sample_names(self, step: int, rank: int, ranks: int) -> list[list[str]]:
        """Returns the examples of each micro-batch as text, for messages."""
        _, parts = self.dataset(rank, ranks).number_examples(step)
        return [[repr(example) for example in self._training.take(numbers)] for numbers in parts]

    def evaluate(self, model: nn.Module, world: DistributedContext) -> dict[str, float]:
        """Returns the official scores on the development split."""
        if self._dev is None:
            return {}
        assert isinstance(model, FineTunedModel)
        predictions = self.task.infer(model, self._dev, batch_size=EVALUATION_BATCH, world=world)
        scores = world.together(partial(self.task.evaluate, predictions, self._dev.examples))
        return {f"dev/{name}": value for name, value in scores.items()}

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes a fine-tuned model."""
        save_fine_tuned(weights, self.config, self._vocabulary, self.task, folder, self._detector)

    def write_card(self, folder: Path, metrics: Mapping[str, float], step: int) -> None:
        """Writes the card of an exported model."""
        detector = None if self._detector is None else self._detector.detector
        facts = ModelFacts(
            title=f"ERNIE-ViL for {self.task.name}",
            purpose=f"ERNIE-ViL with a head for the task {self.task.name}.",
            data={
                "examples": f"{self.examples:,} of {', '.join(self.recipe.train)}",
                "detector of the regions": "not known" if detector is None else detector.name,
            },
            data_name="none" if self.recipe.dev is None else f"{self.task.name}, {self.recipe.dev}",
            recipe=describe_recipe(self.recipe),
        )
        write_card(folder, facts, metrics, step)


def fingerprint_examples(examples: Iterable[Example]) -> str:
    """Returns the SHA-256 of the examples as JSON, one a line."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(orjson.dumps(example, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
    return digest.hexdigest()


def open_workload(
    task: AnyTask, recipe: FineTuneRecipe, start: Path, data: TaskFiles, device_type: str = "cpu"
) -> FineTuning:
    """Opens the examples and regions of a task, and builds the model. The recipe gets the best of the task's metric.

    Args:
        task: the task with the settings of the recipe.
        recipe: the recipe.
        start: a pretraining run or a model folder.
        data: the files of the task.
        device_type: where the model will run.

    Raises:
        InputError: a file is missing or damaged, or does not fit the model.
    """
    start = model_folder(start)
    training = data.open(task, recipe.train, start, device_type)
    task = task.fit(training.examples)
    dev = None if recipe.dev is None else data.open(task, [recipe.dev], start, device_type)
    if dev is not None:
        task.check_labels(dev.examples)
    if dev is not None and recipe.best is None:
        recipe = recipe.model_copy(update={"best": Best(metric=f"dev/{task.metric}", mode="max")})
    checksums = {"regions": data.compute_checksums(), "files": [sha256_of(path) for path in task.files]}
    return FineTuning(task, recipe, start, training, dev, checksums, data.read_detector())


def fine_tune(
    task: AnyTask, recipe: FineTuneRecipe, start: Path, data: TaskFiles, out: Path, *, resume: bool
) -> dict[str, float]:
    """Trains a task in an initialised process group and prints the results.

    Args:
        task: the task with the settings of the recipe.
        recipe: the recipe.
        start: a pretraining run or a model folder.
        data: the files of the task.
        out: folder of the run.
        resume: continue from the latest checkpoint in ``out``.

    Returns:
        The last scores on the development split.

    Raises:
        InputError: a file is missing or damaged, or does not fit the model or the run that is resumed.
    """
    world = DistributedContext.current()
    workload = open_workload(task, recipe, start, data, world.device.type)
    if world.rank == 0:
        if recipe.batch_size > workload.examples:
            say(
                f"batch_size {recipe.batch_size:,} is more than the {workload.examples:,} examples: a batch holds all "
                "of them, once"
            )
        say(f"{task.name}: weights from {model_folder(start)}")
        if not resume:
            say(f"parameters with random values at the start: {', '.join(workload.random_parameters) or 'none'}")
    trainer = Trainer(workload, workload.recipe, out, world, resume=resume)
    what = {"examples": f"{workload.examples:,}", "batch": f"{recipe.batch_size:,} examples"}
    print_banner(what, workload.model, world, steps=trainer.steps, done=trainer.step)
    metrics = trainer.train()
    if world.rank == 0:
        for name, value in metrics.items():
            say(f"{name}: {value:.4f}")
        say(f"model: {out / 'model'}")
    return metrics
