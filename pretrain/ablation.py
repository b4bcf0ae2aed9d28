"""Does scene-graph prediction help? ``python -m pretrain.ablation RECIPE... --shards DIR --held-out DIR --out DIR``.

Each recipe is trained at several learning rates with one seed, and then with further seeds at the best of these rates.
Every trained model is asked for the hidden nodes of held-out captions (`pretrain.cloze`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from parsers.command import console, pluralize, run
from pretrain.data.order import BatchPlan
from pretrain.jobs import run_jobs
from pretrain.options import Settings
from pretrain.recipe import OBJECTIVES, PretrainRecipe
from pretrain.spreads import format_differences, format_spread, insert_results, make_markdown_table, plot_spreads
from pretrain.training.settings import find_recipe
from pretrain.trials import Accuracies, Trial
from shards.reader import ShardSet
from shards.schema import KINDS

START, END = "<!-- results of pretrain.ablation -->", "<!-- end of results -->"
COUNTED_STEPS = 30
"""Number of steps whose targets are counted."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Arm:
    """The results of one recipe."""

    name: str
    rate: float
    """the learning rate that was the best for the first seed"""
    by_rate: Mapping[float, Accuracies]
    """accuracies of the first seed, by learning rate"""
    by_seed: Sequence[Accuracies]
    """accuracies at the learning rate ``rate``, by seed"""
    targets: Mapping[str, float]
    """mean number of targets of a pair, by objective: word pieces, regions, or the pair itself"""


def choose_rate(by_rate: Mapping[float, Accuracies]) -> float:
    """Returns the learning rate with the highest mean ACC@1 over the three kinds; of equal ones, the lowest."""
    return max(sorted(by_rate), key=lambda rate: statistics.fmean(by_rate[rate].values()))


def count_mean_targets(recipe: PretrainRecipe, shards: ShardSet) -> dict[str, float]:
    """Returns the mean number of targets of a pair for each objective, over the first `COUNTED_STEPS` steps."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from pretrain.data.batches import Collator
    from pretrain.objectives import count_targets

    plan = BatchPlan.of(recipe, shards)
    collator = Collator.of(recipe, shards, "cpu")
    counts = torch.stack([count_targets(collator(plan.batch(step))) for step in range(COUNTED_STEPS)]).sum(0)
    return dict(zip(OBJECTIVES, (counts / counts[-1]).tolist(), strict=True))


# ------------------------------------------------------------------------------------------------------------- report


def write_ablation_report(arms: Sequence[Arm], *, settings: str, picture: str) -> str:
    """Returns the results in Markdown. Differences are those of the last arm to each of the others.

    Args:
        arms: the results of all recipes, in the order of the tables' rows and columns.
        settings: a paragraph that says how the models were trained and evaluated.
        picture: where the plot lies, relative to the document.
    """
    kinds = list(arms[0].by_seed[0])
    others, last = arms[:-1], arms[-1]
    lines = [settings, "", f"![ACC@1 of each kind and recipe]({picture})", ""]
    lines += make_markdown_table(
        ["ACC@1, %", *(arm.name for arm in arms), *(f"{last.name} − {arm.name}" for arm in others)],
        [
            [
                kind,
                *(format_spread(_of_kind(arm, kind)) for arm in arms),
                *(format_differences(_of_kind(last, kind), _of_kind(arm, kind)) for arm in others),
            ]
            for kind in kinds
        ],
    )
    lines += [
        "",
        "A recipe has its mean ± standard deviation over the seeds, in percent. A difference is taken seed by seed: "
        "the mean of these differences stands first, and the lowest and the highest of them follow in brackets, in "
        "percentage points.",
        "",
    ]
    lines += make_markdown_table(
        ["ACC@1, %, first seed", "learning rate", *kinds, ""],
        [
            [arm.name, f"{rate:g}", *(f"{100 * found[kind]:.1f}" for kind in kinds), "chosen" * (rate == arm.rate)]
            for arm in arms
            for rate, found in arm.by_rate.items()
        ],
    )
    lines += [""]
    lines += make_markdown_table(
        ["mean number of targets of a pair", *OBJECTIVES, "all word pieces"],
        [
            [
                arm.name,
                *(f"{arm.targets[name]:.2f}" for name in OBJECTIVES),
                f"{sum(arm.targets[name] for name in (*KINDS, 'word')):.2f}",
            ]
            for arm in arms
        ],
    )
    lines += [
        "",
        "A target is a word piece, a region, or, for `match`, the pair itself. The means are over the first "
        f"{COUNTED_STEPS} steps.",
    ]
    return "\n".join(lines) + "\n"


def _of_kind(arm: Arm, kind: str) -> list[float]:
    """The accuracies of each seed."""
    return [found[kind] for found in arm.by_seed]


# ------------------------------------------------------------------------------------------------------------ command


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
    text = None if document is None else document.read_text(encoding="utf-8")
    if text is not None:  # one without markers is refused now rather than in an hour
        insert_results(text, "", START, END)
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
    picture = (out if document is None else document.parent / "images") / "ablation.png"
    plot_spreads({arm.name: arm.by_seed for arm in arms}, picture, label="cloze ACC@1, own image")
    first = loaded[files[0]]
    described = (
        f"Each run takes {first.steps:,} steps of {first.batch_size} pairs over {len(training):,} images. Each recipe "
        f"has {pluralize(seeds, 'seed')}. The cloze test hides up to {most:,} nodes of each kind, one at a time, in "
        f"the captions of {len(ShardSet(held_out)):,} held-out images. Each caption is shown with its own image."
    )
    relative = picture.name if document is None else f"images/{picture.name}"
    results = write_ablation_report(arms, settings=described, picture=relative)
    (out / "ablation.md").write_text(results, encoding="utf-8")
    if document is not None and text is not None:
        document.write_text(insert_results(text, results, START, END), encoding="utf-8")
    console.print(results)
    console.print(f"written: {out / 'ablation.md'}, {picture}" + (f", {document}" if document else ""), soft_wrap=True)


if __name__ == "__main__":
    run(app)
