"""The runs of a comparison: each task is fine-tuned from each model, and tested."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from finetune.comparison.chance import GUESSES, Scores
from finetune.data import TaskFiles
from finetune.model_folder import find_fine_tuned, load_fine_tuned, load_task
from finetune.task import AnyTask
from finetune.tasks import import_task
from finetune.training.finetuning import fine_tune
from finetune.training.recipe import FineTuneRecipe
from parsers.command import say
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG
from pretrain.model.folder import export_untrained
from pretrain.training.distributed import DistributedContext
from shards.storage.files import read_record, write_record
from shards.vocabulary import VOCABULARY

RECIPES = Path(__file__).resolve().parents[2] / "configs/finetune"
CHANCE = "chance"
TUNED_ON = "val"
"""The split on which a learning rate is chosen."""
BATCH = 256
"""Number of examples, or of pairs in retrieval, that are predicted at once."""
LearningRate = float | None
"""A learning rate, or None for that of the recipe."""
Results = dict[str, dict[str, list[float]]]
"""By start (`CHANCE` is one of them) and score, the values of all seeds."""


@dataclass(frozen=True)
class ComparedTask:
    """The files, splits and scores of a task in a comparison."""

    folder: str
    """folder of its files in the world's ``tasks``"""
    test: tuple[str, ...]
    """the splits whose scores are shown"""
    scores: tuple[str, ...]
    """the scores that are shown"""


COMPARED: Mapping[str, ComparedTask] = {
    "vqa": ComparedTask("vqa", ("test",), ("accuracy",)),
    "vcr": ComparedTask("vcr", ("test",), ("Q->A", "QA->R", "Q->AR")),
    "retrieval": ComparedTask("flickr30k", ("test",), ("image/R@1", "text/R@1", "recall")),
    "refcoco_plus": ComparedTask("refcoco_plus", ("testA", "testB"), ("accuracy",)),
}


@dataclass(frozen=True)
class Comparison:
    """The files of a comparison."""

    world: Path
    regions: Path
    gold_regions: Path
    out: Path

    def find_files(self, name: str) -> TaskFiles:
        """Returns the files of a task."""
        return TaskFiles(self.world / "tasks" / COMPARED[name].folder, [self.regions], [self.gold_regions])

    def load_recipe(self, name: str, settings: Sequence[str] = ()) -> tuple[AnyTask, FineTuneRecipe]:
        """Returns a task and its recipe, changed by ``key=value``."""
        task = import_task(name)
        recipe = FineTuneRecipe.for_task(task.settings_type).load(RECIPES / name / "toy.yaml", list(settings))
        return task(recipe.task), recipe

    def run(self, name: str, start: Path, label: str, seed: int, rate: LearningRate) -> Scores:
        """Fine-tunes and tests a model, or reads the scores of an earlier run.

        Args:
            name: the task.
            start: the model to start from.
            label: what the start is called.
            seed: the seed of the fine-tuning.
            rate: the learning rate. If one is given, the split `TUNED_ON` is tested as well, to choose by it.

        Returns:
            The scores as SPLIT/NAME.
        """
        out = self.out / name / f"{label.replace(' ', '-')}-{'recipe' if rate is None else rate}-{seed}"
        result = out / "scores.json"
        if not result.exists():
            if out.exists():
                shutil.rmtree(out)
            settings = [f"seed={seed}", *([] if rate is None else [f"optimizer.learning_rate={rate}"])]
            task, recipe = self.load_recipe(name, settings)
            say(f"{name}, {label}, seed {seed}")
            fine_tune(task, recipe, start, self.find_files(name), out, resume=False)
            splits = (*COMPARED[name].test, *(() if rate is None else (TUNED_ON,)))
            write_record(self._test(name, find_fine_tuned(out), splits), result)
        return Scores(read_record(result))

    def _test(self, name: str, folder: Path, splits: Sequence[str]) -> Scores:
        world = DistributedContext(0, 1, torch.device("cpu"))
        task = load_task(folder, import_task(name))
        model, scores = load_fine_tuned(folder, task, world.device), Scores()
        for split in splits:
            examples = self.find_files(name).open(task, [split], folder)
            predictions = task.infer(model, examples, batch_size=BATCH, world=world)
            scores |= {f"{split}/{n}": v for n, v in task.evaluate(predictions, examples.examples).items()}
        return scores

    def guess(self, name: str, start: Path) -> Scores:
        """Returns the scores of guessing on the test splits as SPLIT/NAME."""
        task, _ = self.load_recipe(name)
        training = self.find_files(name).open(task, ["train"], start)
        scores = Scores()
        for split in COMPARED[name].test:
            test = self.find_files(name).open(task, [split], start)
            scores |= {f"{split}/{n}": v for n, v in GUESSES[name](training, test, task).items()}
        return scores


def write_untrained(like: Path, out: Path, seed: int) -> Path:
    """Writes a model with random weights and the size and vocabulary of another one; returns its folder."""
    export_untrained(ModelConfig.load(like / CONFIG), (like / VOCABULARY).read_bytes(), out, seed)
    return out


def compare_runs(
    comparison: Comparison,
    starts: Mapping[str, Sequence[Path]],
    name: str,
    *,
    seeds: int,
    rates: Sequence[float],
) -> tuple[Results, dict[str, LearningRate]]:
    """Runs what is missing of a task.

    Args:
        comparison: the files.
        starts: by name, the model of each seed. A single model serves all seeds.
        name: the task.
        seeds: number of fine-tuning runs of each start.
        rates: learning rates to choose from for each start, on `TUNED_ON` with seed 0. If empty, the recipe's is used.

    Returns:
        The scores, and by start the learning rate that was chosen.
    """
    first = next(iter(starts.values()))[0]
    results: Results = {CHANCE: {key: [value] for key, value in comparison.guess(name, first).items()}}
    chosen: dict[str, LearningRate] = {}
    metric = f"{TUNED_ON}/{comparison.load_recipe(name)[0].metric}"
    for label, models in starts.items():
        tried = {rate: comparison.run(name, models[0], label, 0, rate)[metric] for rate in rates}
        chosen[label] = max(tried, key=tried.__getitem__) if tried else None
        scores = [comparison.run(name, models[seed % len(models)], label, seed, chosen[label]) for seed in range(seeds)]
        results[label] = {key: [of_seed[key] for of_seed in scores] for key in scores[0]}
    return results, chosen
