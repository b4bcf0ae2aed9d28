"""What pretraining was good for: the tasks of a toy world, fine-tuned from several models with the same recipes.

``python -m finetune.comparison --world DIR --regions DIR --gold-regions DIR --start NAME=FOLDER --out DIR``. Everything
runs in one process; what is finished is kept, and a rerun goes on with the rest. Scores are those of the test splits.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from finetune.tasks import task_type
from parsers.command import InputError, console, run, say
from pretrain.model.config import ModelConfig
from shards.boxes import intersection_over_union
from shards.storage.files import read_json, write_atomic, write_json
from shards.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from finetune.data import Data
    from finetune.task import Split, Task
    from finetune.training.recipe import Recipe

RECIPES = Path(__file__).resolve().parent.parent / "configs/finetune"
UNTRAINED = "no pretraining"
CHANCE = "chance"
TUNED_ON = "val"
Scores = dict[str, float]

app = typer.Typer(add_completion=False)


# -------------------------------------------------------------------------------------------------------------- chance


def _most_frequent_answer(training: Split[Any], test: Split[Any], task: Task[Any, Any]) -> Scores:
    answers = [question.main_answer for question in training.examples]
    answer = max(sorted(set(answers)), key=answers.count)
    return task.evaluate([{"question_id": q.question_id, "answer": answer} for q in test.examples], test.examples)


def _any_choice(*_: Any) -> Scores:
    return {"Q->A": 1 / 4, "QA->R": 1 / 4, "Q->AR": 1 / 16}


def _any_rank(_: Split[Any], test: Split[Any], task: Task[Any, Any]) -> Scores:
    """Expected recalls of a random order: K of I images; not all of an image's c captions after the first K of C."""
    owners = [caption.image_id for caption in test.examples]
    captions, images = len(owners), len(set(owners))
    each = captions // images
    scores = {}
    for k in (1, 5, 10):
        scores[f"image/R@{k}"] = min(1.0, k / images)
        scores[f"text/R@{k}"] = 1 - float(np.prod([(captions - each - i) / (captions - i) for i in range(k)]))
    return {task.metric: sum(scores.values()) / len(scores), **scores}


def _any_region(_: Split[Any], test: Split[Any], task: Task[Any, Any]) -> Scores:
    # Imported late, here and below: PyTorch takes seconds, and --help should answer at once.
    from finetune.tasks.refcoco_plus import HIT

    hits = []
    for expression in test.examples:
        boxes = test.sources.images[expression.image_id].regions.boxes
        hits.append((intersection_over_union(boxes, np.array([expression.box])) >= HIT).mean())
    return {task.metric: float(np.mean(hits))}


@dataclass(frozen=True)
class Compared:
    """A task as it is compared."""

    folder: str
    """of its files in the world's ``tasks``"""
    test: tuple[str, ...]
    """the splits whose scores are shown"""
    scores: tuple[str, ...]
    chance: Callable[[Split[Any], Split[Any], Task[Any, Any]], Scores]


COMPARED: Mapping[str, Compared] = {
    "vqa": Compared("vqa", ("test",), ("accuracy",), _most_frequent_answer),
    "vcr": Compared("vcr", ("test",), ("Q->A", "QA->R", "Q->AR"), _any_choice),
    "retrieval": Compared("flickr30k", ("test",), ("image/R@1", "text/R@1", "recall"), _any_rank),
    "refcoco_plus": Compared("refcoco_plus", ("testA", "testB"), ("accuracy",), _any_region),
}


# ---------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Comparison:
    """Where everything is."""

    world: Path
    regions: Path
    gold_regions: Path
    out: Path

    def data(self, name: str) -> Data:
        """The files of a task."""
        from finetune.data import Data

        return Data(self.world / "tasks" / COMPARED[name].folder, [self.regions], [self.gold_regions])

    def task(self, name: str) -> Task[Any, Any]:
        """A task with the settings of its recipe."""
        return task_type(name)(self.recipe(name, []).task)

    def recipe(self, name: str, settings: list[str]) -> Recipe[Any]:
        """The recipe of a task, changed by ``key=value``."""
        from finetune.training.recipe import Recipe

        found: Recipe[Any] = Recipe[task_type(name).settings_type].load(RECIPES / name / "toy.yaml", settings)  # type: ignore[misc]
        return found

    def run(self, name: str, start: Path, label: str, seed: int, rate: float | None) -> Scores:
        """Fine-tunes and tests, or reads what was found before; scores by SPLIT/NAME.

        ``rate`` replaces the recipe's learning rate; to choose by, the val split is then tested too.
        """
        import torch

        from finetune.model_folder import fine_tuned_folder, load, load_task
        from finetune.training.finetuning import fine_tune
        from pretrain.training.distributed import DistributedContext

        out = self.out / name / f"{label.replace(' ', '-')}-{'recipe' if rate is None else rate}-{seed}"
        result = out / "scores.json"
        if not result.exists():
            if out.exists():
                shutil.rmtree(out)
            settings = [f"seed={seed}", *([] if rate is None else [f"optimizer.learning_rate={rate}"])]
            recipe = self.recipe(name, settings)
            say(f"{name}, {label}, seed {seed}")
            fine_tune(task_type(name)(recipe.task), recipe, start, self.data(name), out, resume=False)
            folder = fine_tuned_folder(out)
            task = load_task(folder, name)
            model, scores = load(folder, task), Scores()
            for split in (*COMPARED[name].test, *(() if rate is None else (TUNED_ON,))):
                examples = self.data(name).open(task, [split], folder)
                found = task.infer(model, examples, batch_size=256, world=DistributedContext(0, 1, torch.device("cpu")))
                scores |= {f"{split}/{n}": v for n, v in task.evaluate(found, examples.examples).items()}
            write_json(scores, result)
        known: Scores = read_json(result)
        return known

    def chance(self, name: str, start: Path) -> Scores:
        """What guessing gives on the test splits, by SPLIT/NAME."""
        task = self.task(name)
        training = self.data(name).open(task, ["train"], start)
        found: Scores = {}
        for split in COMPARED[name].test:
            test = self.data(name).open(task, [split], start)
            found |= {f"{split}/{n}": v for n, v in COMPARED[name].chance(training, test, task).items()}
        return found


def write_untrained(like: Path, out: Path, seed: int) -> Path:
    """A model of the same size and vocabulary with random weights."""
    import torch

    from pretrain.model.encoder import CONFIG, ENCODER, ErnieViL
    from pretrain.model.folder import export

    torch.manual_seed(seed)
    config = ModelConfig.load(like / CONFIG)
    weights = {ENCODER + name: tensor for name, tensor in ErnieViL(config).state_dict().items()}
    export(weights, config, (like / VOCABULARY).read_bytes(), out)
    return out


def compare(
    comparison: Comparison,
    starts: Mapping[str, Sequence[Path]],
    *,
    tasks: Sequence[str],
    seeds: int,
    rates: Sequence[float],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs everything that is missing.

    Args:
        comparison: where everything is.
        starts: by name the model of each seed; a single one serves all seeds.
        tasks: which to compare.
        seeds: of the fine-tuning.
        rates: learning rates to choose from for each task and start, on `TUNED_ON` with seed 0; none: the recipe's.

    Returns:
        By task, start (`CHANCE` among them) and score, the values of all seeds; and the chosen ``learning_rate``, None
        for the recipe's.
    """
    first = next(iter(starts.values()))[0]
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name in tasks:
        results[name] = {CHANCE: {key: [value] for key, value in comparison.chance(name, first).items()}}
        for label, models in starts.items():
            metric = f"{TUNED_ON}/{comparison.task(name).metric}"
            tried = {rate: comparison.run(name, models[0], label, 0, rate)[metric] for rate in rates}
            rate = max(tried, key=tried.__getitem__) if tried else None
            found = [comparison.run(name, models[seed % len(models)], label, seed, rate) for seed in range(seeds)]
            results[name][label] = {key: [scores[key] for scores in found] for key in found[0]}
            results[name][label]["learning_rate"] = rate
    return results


# -------------------------------------------------------------------------------------------------------------- report


def rows(results: Mapping[str, Mapping[str, Mapping[str, Any]]], labels: Sequence[str]) -> list[list[str]]:
    """A row for each score that is shown: task, score and split, then chance and each start in per cent."""
    found = []
    for name, by_start in results.items():
        for split in COMPARED[name].test:
            for score in COMPARED[name].scores:
                cells = [_cell(by_start[label].get(f"{split}/{score}")) for label in (CHANCE, *labels)]
                found.append([name, f"{score}, {split}", *cells])
    return found


def _cell(values: Sequence[float] | None) -> str:
    if values is None:
        return "-"
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


@app.command(
    epilog="Example: python -m finetune.comparison --world data/demo/tasks --regions data/demo/task-regions "
    "--gold-regions data/demo/task-gold-regions --start pretrained=runs/demo --untrained --out runs/demo/tasks"
)
def main(
    world: Annotated[Path, typer.Option(help="A toy world made with --tasks.")],
    regions: Annotated[Path, typer.Option(help="Its regions, imported.")],
    gold_regions: Annotated[Path, typer.Option(help="Its tasks/vcr/regions, imported.")],
    start: Annotated[
        list[str],
        typer.Option(metavar="NAME=FOLDER", help="A pretrained model; once for each seed under the same name."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for runs and tables.")],
    untrained: Annotated[bool, typer.Option("--untrained", help="Also start from random weights.")] = False,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the fine-tuning.")] = 1,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="Choose for each task and start from these, on val; may be repeated.")
    ] = None,
) -> None:
    """Fine-tune the toy world's tasks from several models and compare their scores with chance."""
    from pretrain.model.folder import model_folder
    from pretrain.training.distributed import with_process_group

    starts: dict[str, list[Path]] = {}
    for given in start:
        name, equals, folder = given.partition("=")
        if not equals:
            raise typer.BadParameter(f"{given!r} is not NAME=FOLDER")
        starts.setdefault(name, []).append(model_folder(Path(folder)))
    for name in task or ():
        if name not in COMPARED:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(COMPARED)}")
    if not (world / "tasks").is_dir():
        raise InputError(f"{world}: has no tasks; make the world with --tasks")
    if untrained:
        like = next(iter(starts.values()))[0]
        starts[UNTRAINED] = [write_untrained(like, out / f"untrained-{seed}", seed) for seed in range(seeds)]

    def work() -> None:
        comparison = Comparison(world, regions, gold_regions, out)
        results = compare(comparison, starts, tasks=task or list(COMPARED), seeds=seeds, rates=learning_rate or [])
        write_json(results, out / "tasks.json")
        header, body = ["task", "score", CHANCE, *starts], rows(results, list(starts))
        table = Table(*header, title="Downstream tasks, per cent", title_justify="left")
        for row in body:
            table.add_row(*row)
        console.print(table)
        lines = [header, ["---"] * len(header), *body]
        write_atomic(out / "tasks.md", "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())

    with_process_group(work)


if __name__ == "__main__":
    run(app)
