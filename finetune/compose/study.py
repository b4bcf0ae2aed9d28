"""What do pretraining recipes teach? ``python -m finetune.compose.study RECIPE... --shards DIR --world DIR --out DIR``.

Each recipe is trained with several seeds. Every model is asked for the hidden nodes of held-out captions, scores the
suite of a toy world, and is fine-tuned on the tasks of this world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune.compose.__main__ import SCORES
from finetune.tasks import TASKS
from parsers.command import InputError, pluralize, run
from pretrain.ablation.jobs import run_jobs
from pretrain.ablation.spreads import (
    ResultsPlace,
    format_differences,
    format_spread,
    make_markdown_table,
    plot_spreads,
)
from pretrain.ablation.trials import Accuracies, Trial
from pretrain.cloze import NONE, OTHER, OWN
from pretrain.options import Settings
from pretrain.recipe import PretrainRecipe, check_negatives
from pretrain.training.settings import find_recipe
from shards.reader import ShardSet
from shards.storage.files import read_json, read_record

START, END = "<!-- results of finetune.compose.study -->", "<!-- end of results -->"
ALL, COMPOSED = "all pairs", "compose"

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class StudiedArm:
    """The results of one recipe."""

    trials: Sequence[Trial]
    """one for each seed"""
    suite: Mapping[str, Sequence[Accuracies]]
    """by what the captions are shown with, for each seed the accuracy of each kind of pair and of all"""
    cloze: Mapping[str, Sequence[Accuracies]]
    """likewise, ACC@1 of each kind of node"""

    @classmethod
    def read(cls, trials: Sequence[Trial], out: Path) -> StudiedArm:
        """Reads what the runs in ``out`` have found."""
        suites = [read_record(out / trial.name / COMPOSED / SCORES)["suites"][0] for trial in trials]
        return cls(
            trials,
            {shown: [_accuracies(suite, shown) for suite in suites] for shown in (OWN, NONE, OTHER)},
            {shown: [trial.read_accuracies(out, shown) for trial in trials] for shown in (OWN, NONE)},
        )

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.trials[0].recipe.stem


def _accuracies(suite: Mapping[str, Any], shown: str) -> Accuracies:
    kinds = {**suite["kinds"], ALL: suite["all"]}
    return {kind: result["accuracies"][shown]["accuracy"] for kind, result in kinds.items()}


# ------------------------------------------------------------------------------------------------------------- report


def write_study_report(
    arms: Sequence[StudiedArm], tasks: Sequence[Sequence[str]], *, settings: str, picture: str
) -> str:
    """Returns the results in Markdown. Differences are those of each arm to the first.

    Args:
        arms: the results of all recipes, in the order of the columns.
        tasks: the rows of the table of tasks: task, score, chance, and a cell for each arm.
        settings: a paragraph that says how the models were trained.
        picture: where the plot lies, relative to the document.
    """
    names = [arm.name for arm in arms]
    lines = [settings, "", f"![Accuracy on the suite of each kind and recipe]({picture})", ""]
    lines += _compare("suite, own image, %", {arm.name: arm.suite[OWN] for arm in arms})
    lines += ["", "The same without the image: with another image, and with none."]
    for shown in (OTHER, NONE):
        lines += ["", *_compare(f"suite, {shown}, %", {arm.name: arm.suite[shown] for arm in arms})]
    lines += ["", "The cloze test: ACC@1 with the own image, and with none."]
    for shown in (OWN, NONE):
        lines += ["", *_compare(f"cloze, {shown}, %", {arm.name: arm.cloze[shown] for arm in arms})]
    lines += ["", "The tasks:", "", *make_markdown_table(["task", "score", "chance", *names], tasks), ""]
    lines += [
        "A recipe has its mean ± standard deviation over the seeds, in per cent. A difference is taken seed by seed: "
        "the mean of these differences stands first, and the lowest and the highest of them follow in brackets, in "
        "percentage points."
    ]
    return "\n".join(lines) + "\n"


def _compare(label: str, by_arm: Mapping[str, Sequence[Accuracies]]) -> list[str]:
    first, *others = by_arm
    rows = []
    for kind in by_arm[first][0]:
        of_kind = {name: [found[kind] for found in by_seed] for name, by_seed in by_arm.items()}
        differences = (format_differences(of_kind[name], of_kind[first]) for name in others)
        rows.append([kind, *map(format_spread, of_kind.values()), *differences])
    return make_markdown_table([label, *by_arm, *(f"{name} − {first}" for name in others)], rows)


# ------------------------------------------------------------------------------------------------------------ command


@app.command(
    epilog="Example: ernie-vil compositional compositional/words compositional/scene-graph compositional/negatives "
    "--shards data/apart/shards/train --held-out data/apart/shards/val --world data/apart/suite "
    "--regions data/apart/suite-regions --gold-regions data/apart/suite-gold-regions --out runs/compositional"
)
def main(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Recipes to compare; the others are compared with the first."),
    ],
    shards: Annotated[str, typer.Option(help="Shards to train on.")],
    held_out: Annotated[str, typer.Option(help="Shards to evaluate on.")],
    world: Annotated[Path, typer.Option(help="A toy world made with --suite and --tasks.")],
    regions: Annotated[Path, typer.Option(help="The world's regions, imported with pipeline.regions.")],
    gold_regions: Annotated[Path, typer.Option(help="The world's tasks/vcr/regions, imported with pipeline.regions.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; finished ones are not trained again.")],
    document: Annotated[
        Path | None, typer.Option(help="Markdown file to write the results into; the plot goes to images/ beside it.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each recipe.")] = 3,
    most: Annotated[int, typer.Option(min=1, help="Hidden nodes of each kind, at most.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 2,
    set_: Settings = None,
) -> None:
    """Compare pretraining recipes by a suite, the cloze test and the toy world's tasks, over several seeds."""
    settings = set_ or []
    loaded = {file: PretrainRecipe.load(file, settings) for file in (find_recipe(name, "pretrain") for name in recipes)}
    for needed in ("suite", "tasks"):
        if not (world / needed).is_dir():
            raise InputError(f"{world}: has no {needed}; make the world with --{needed}")
    place = ResultsPlace(out, "compositional", document, (START, END))
    place.check()
    training = ShardSet(shards)
    for recipe in loaded.values():  # this, too, is refused now rather than in an hour
        check_negatives(recipe, training)
    out.mkdir(parents=True, exist_ok=True)

    trials = {
        file: [Trial(file, recipe.optimizer.learning_rate, seed) for seed in range(seeds)]
        for file, recipe in loaded.items()
    }
    jobs = {}
    for trial in chain.from_iterable(trials.values()):
        folder = out / trial.name
        score = ["finetune.compose", str(world / "suite"), "--model", str(folder), "--regions", str(regions)]
        jobs[trial.name] = [
            *trial.commands(shards, held_out, out, settings=settings, most=most),
            [*score, "--out", str(folder / COMPOSED), "--device", "cpu"],
        ]
    run_jobs(jobs, out, title="pretraining", workers=workers)
    starts = [f"{file.stem}={out / trial.name}" for file, of_recipe in trials.items() for trial in of_recipe]
    tasks = out / "tasks"
    tasks.mkdir(exist_ok=True)
    files = ["--world", str(world), "--regions", str(regions), "--gold-regions", str(gold_regions)]
    compare = ["finetune.comparison", *files, "--seeds", str(seeds)]
    compare += [part for start in starts for part in ("--start", start)]
    run_jobs(
        {task: [[*compare, "--task", task, "--out", str(tasks / task)]] for task in TASKS},
        tasks,
        title="tasks",
        workers=workers,
    )

    arms = [StudiedArm.read(of_recipe, out) for of_recipe in trials.values()]
    plot_spreads({arm.name: arm.suite[OWN] for arm in arms}, place.plot, label="suite, own image")
    first = next(iter(loaded.values()))
    described = (
        f"Each run takes {first.steps:,} steps of {first.batch_size} pairs over {len(training):,} images. Each recipe "
        f"has {pluralize(seeds, 'seed')}. The suite has {_count_pairs(arms[0], out):,} pairs."
    )
    results = write_study_report(arms, _read_tasks(tasks, arms), settings=described, picture=place.plot_link)
    place.write(results)


def _count_pairs(arm: StudiedArm, out: Path) -> int:
    suite = read_record(out / arm.trials[0].name / COMPOSED / SCORES)["suites"][0]
    pairs: int = suite["all"]["pairs"]
    return pairs


def _read_tasks(folder: Path, arms: Sequence[StudiedArm]) -> list[list[str]]:
    from finetune.comparison.report import make_rows  # late: PyTorch takes seconds, and --help should answer at once

    results = {task: read_json(folder / task / "tasks.json")[task] for task in TASKS}
    return make_rows(results, [arm.name for arm in arms])


if __name__ == "__main__":
    run(app)
