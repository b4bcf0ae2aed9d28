"""Fine-tuning as a workload of the training loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from finetune.data import Data
from finetune.inputs import Batch
from finetune.model_folder import save, start_from
from finetune.task import FineTuned, Split, Task, floats
from finetune.training.optimization import parameter_groups, prepare_step
from finetune.training.recipe import Recipe
from parsers.command import say
from pretrain.data.order import slice_of
from pretrain.model.config import ModelConfig
from pretrain.model.costs import PairCosts
from pretrain.model.encoder import CONFIG
from pretrain.model.folder import model_folder
from pretrain.training.distributed import World
from pretrain.training.settings import Best
from pretrain.training.trainer import Trainer
from pretrain.training.workload import Scores
from shards.random_numbers import generator
from shards.reader import VOCABULARY
from shards.schema import Array
from shards.storage.files import sha256_of

if TYPE_CHECKING:
    from pretrain.model.compilation import CompiledForward

EVALUATION_BATCH = 64
"""Examples, or pairs in retrieval, that each rank predicts at once."""
_ORDER, _DRAWS = range(2)
"""Purposes of random numbers."""


class Steps(Dataset[Sequence[Batch]]):
    """The micro-batches of a rank by step. An epoch is a permutation of the examples; its last batch may be short."""

    def __init__(
        self, task: Task[Any, Any], split: Split[Any], recipe: Recipe[Any], *, rank: int = 0, ranks: int = 1
    ) -> None:
        self._task, self._split, self._recipe = task, split, recipe
        self._rank, self._ranks = rank, ranks
        self.per_epoch = -(-len(split.examples) // recipe.batch_size)
        self._order = lru_cache(2)(self._shuffle)

    def numbers(self, step: int) -> tuple[int, list[Array]]:
        """The epoch of a step, and which examples are in each micro-batch."""
        epoch, position = divmod(step, self.per_epoch)
        size, parts = self._recipe.batch_size, self._recipe.accumulation
        batch = self._order(epoch)[position * size : (position + 1) * size]
        own = batch[slice_of(len(batch), self._rank, self._ranks)]
        return epoch, [own[slice_of(len(own), part, parts)] for part in range(parts)]

    def __getitem__(self, step: int) -> list[Batch]:
        epoch, parts = self.numbers(step)
        return [self._collate(epoch, numbers) for numbers in parts]

    def _collate(self, epoch: int, numbers: Array) -> Batch:
        random = [generator(self._recipe.seed, epoch, _DRAWS, number) for number in numbers.tolist()]
        return self._task.collate(self._split, numbers, random)

    def _shuffle(self, epoch: int) -> Array:
        return generator(self._recipe.seed, epoch, _ORDER).permutation(len(self._split.examples))


class FineTuning:
    """A task on a pretrained model; see `pretrain.training.workload.Workload`."""

    def __init__(
        self,
        task: Task[Any, Any],
        recipe: Recipe[Any],
        start: Path,
        training: Split[Any],
        dev: Split[Any] | None,
        checksums: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Builds the model.

        Args:
            task: fitted to the training examples.
            recipe: of the run.
            start: a model folder.
            training: the examples to learn from.
            dev: those to evaluate on.
            checksums: by kind, of files that a resumed run must find again.
        """
        self.task, self.recipe, self._training, self._dev = task, recipe, training, dev
        self._checksums = dict(checksums or {})
        self.config = ModelConfig.load(start / CONFIG)
        if recipe.hidden_dropout is not None:
            self.config = self.config.model_copy(update={"hidden_dropout_prob": recipe.hidden_dropout})
        self._vocabulary = (start / VOCABULARY).read_bytes()
        torch.manual_seed(recipe.seed)  # the same head on every rank
        self.model = FineTuned(self.config, task.make_head(self.config))
        self.random = start_from(start, self.model)
        self.model.ernie_vil.gradient_checkpointing = recipe.gradient_checkpointing
        self.objectives = (task.name,)
        self.weights = (task.weight(recipe.batch_size),)
        self.steps_per_epoch = Steps(task, training, recipe).per_epoch

    def identity(self) -> dict[str, Any]:
        """The task with its classes, the size of the model, and checksums of the examples and the other files."""
        examples = hashlib.sha256("\n".join(map(repr, self._training.examples)).encode()).hexdigest()
        settings = self.task.settings.model_dump_json()
        model = self.config.model_dump_json()
        return {"task": settings, "model": model, "examples": examples, **self._checksums}

    @property
    def sure_metrics(self) -> Sequence[str]:
        """The score of the task."""
        return () if self._dev is None else (f"dev/{self.task.metric}",)

    def make_optimizer(self) -> torch.optim.AdamW:
        """The released one, see `finetune.training.optimization`."""
        settings = self.recipe.optimizer
        groups = parameter_groups(self.model.ernie_vil, self.model.head, settings)
        return torch.optim.AdamW(groups, betas=settings.betas, fused=True)

    def prepare_step(self, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
        """See `finetune.training.optimization.prepare_step`."""
        rate = self.recipe.optimizer.learning_rate_at(step, steps)
        prepare_step(optimizer, step, rate)
        return rate

    def dataset(self, rank: int, ranks: int) -> Steps:
        """A rank's micro-batches of each step."""
        return Steps(self.task, self._training, self.recipe, rank=rank, ranks=ranks)

    def count_targets(self, batch: Batch) -> Tensor:
        """float64 [1]."""
        return torch.tensor([self.task.count_targets(batch)], dtype=torch.float64, device=batch.device)

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """The loss of the task."""
        loss, correct = self.task.score(floats(model(**batch.inputs)), batch)
        return Scores(loss.double()[None], correct.detach().double()[None], self.count_targets(batch))

    def compile(self, say: Callable[[str], None]) -> CompiledForward:
        """Compiles the encoder."""
        from pretrain.model.compilation import CompiledForward  # late: PyTorch's compiler takes seconds to import

        return CompiledForward(self.model.ernie_vil, say)

    @cached_property
    def _costs(self) -> PairCosts:
        return PairCosts.of(self.config, torch.float32)

    def flops(self, batch: Batch) -> float:
        """Of the encoder."""
        return float(self._costs.flops_at(*(np.array(size) for size in batch.shape)))

    def sample_names(self, step: int, rank: int, ranks: int) -> list[list[str]]:
        """The examples."""
        _, parts = self.dataset(rank, ranks).numbers(step)
        return [[repr(example) for example in self._training.take(numbers)] for numbers in parts]

    def evaluate(self, model: nn.Module, world: World) -> dict[str, float]:
        """The official scores on the development split."""
        if self._dev is None:
            return {}
        predictions = self.task.infer(model, self._dev, batch_size=EVALUATION_BATCH, world=world)
        return {f"dev/{name}": value for name, value in self.task.evaluate(predictions, self._dev.examples).items()}

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Writes a fine-tuned model."""
        save(weights, self.config, self._vocabulary, self.task, folder)


def fine_tune(
    task: Task[Any, Any], recipe: Recipe[Any], start: Path, data: Data, out: Path, *, resume: bool
) -> dict[str, float]:
    """Trains in an initialised process group and says what came out; returns the last scores on the dev split."""
    world, start = World.current(), model_folder(start)
    training = data.open(task, recipe.train, start, world.device.type)
    task = task.fitted(training.examples)
    dev = None if recipe.dev is None else data.open(task, [recipe.dev], start, world.device.type)
    if dev is not None and recipe.best is None:
        recipe = recipe.model_copy(update={"best": Best(metric=f"dev/{task.metric}", mode="max")})
    checksums = {"regions": data.checksums(), "files": [sha256_of(path) for path in task.files]}
    workload = FineTuning(task, recipe, start, training, dev, checksums)
    if world.rank == 0:
        say(f"{task.name}: {len(training.examples):,} examples, weights from {start}")
        if not resume:
            say(f"random at the start: {', '.join(workload.random) or 'nothing'}")
    metrics = Trainer(workload, recipe, out, world, resume=resume).train()
    if world.rank == 0:
        for name, value in metrics.items():
            say(f"{name}: {value:.4f}")
        say(f"model: {out / 'model'}")
    return metrics
