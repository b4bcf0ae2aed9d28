"""Does scene-graph prediction help? ``python -m pretrain.ablation RECIPE... --shards DIR --held-out DIR --out DIR``.

Each recipe is trained at several learning rates with one seed, and then with further seeds at the best of these rates.
Every trained model is asked for the hidden nodes of held-out captions (`pretrain.cloze`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parsers.command import pluralize, run
from pretrain.ablation.jobs import run_jobs
from pretrain.ablation.report import Arm, choose_rate, count_mean_targets, write_ablation_report
from pretrain.ablation.spreads import ResultsPlace, plot_spreads
from pretrain.ablation.trials import Accuracies, Trial
from pretrain.options import Settings
from pretrain.recipe import PretrainRecipe
from pretrain.training.settings import find_recipe
from shards.reader import ShardSet

START, END = "<!-- results of pretrain.ablation -->", "<!-- end of results -->"

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil ablation ablation/words ablation/random-spans ablation/scene-graph "
    "--shards data/demo/shards/train --held-out data/demo/shards/val --out runs/ablation --document docs/ablation.md"
)
def main(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Recipes to compare; the last is compared with the others."),
    ],
    shards: Annotated[str, typer.Option(help="Shards to train on.")],
    held_out: Annotated[str, typer.Option(help="Shards to evaluate on.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; finished ones are not trained again.")],
    document: Annotated[
        Path | None, typer.Option(help="Markdown file to write the results into; the plot goes to images/ beside it.")
    ] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="Learning rates to choose among; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each recipe at its best rate.")] = 3,
    most: Annotated[int, typer.Option(min=1, help="Hidden nodes of each kind, at most.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 2,
    set_: Settings = None,
) -> None:
    """Compare pretraining recipes by the cloze test, each at its best learning rate, over several seeds."""
    settings = set_ or []
    files = [find_recipe(recipe, "pretrain") for recipe in recipes]
    loaded = {recipe: PretrainRecipe.load(recipe, settings) for recipe in files}
    training = ShardSet(shards)
    place = ResultsPlace(out, "ablation", document, (START, END))
    place.check()
    out.mkdir(parents=True, exist_ok=True)
    rates = sorted(learning_rate or [5e-4, 1e-3, 2e-3])

    def run_trials(trials: Sequence[Trial]) -> dict[Trial, Accuracies]:
        jobs = {t.name: t.commands(shards, held_out, out, settings=settings, most=most) for t in trials}
        run_jobs(jobs, out, title="ablation", workers=workers)
        return {trial: trial.read_accuracies(out) for trial in trials}

    found = run_trials([Trial(recipe, rate, 0) for recipe in files for rate in rates])
    by_rate = {recipe: {rate: found[Trial(recipe, rate, 0)] for rate in rates} for recipe in files}
    best = {recipe: choose_rate(by_rate[recipe]) for recipe in files}
    found |= run_trials([Trial(recipe, best[recipe], seed) for seed in range(1, seeds) for recipe in files])
    arms = [
        Arm(
            recipe.stem,
            best[recipe],
            by_rate[recipe],
            [found[Trial(recipe, best[recipe], seed)] for seed in range(seeds)],
            count_mean_targets(loaded[recipe], training),
        )
        for recipe in files
    ]
    plot_spreads({arm.name: arm.by_seed for arm in arms}, place.plot, label="cloze ACC@1, own image")
    first = loaded[files[0]]
    described = (
        f"Each run takes {first.steps:,} steps of {first.batch_size} pairs over {len(training):,} images. Each recipe "
        f"has {pluralize(seeds, 'seed')}. The cloze test hides up to {most:,} nodes of each kind, one at a time, in "
        f"the captions of {len(ShardSet(held_out)):,} held-out images. Each caption is shown with its own image."
    )
    results = write_ablation_report(arms, settings=described, picture=place.plot_link)
    place.write(results)


if __name__ == "__main__":
    run(app)
