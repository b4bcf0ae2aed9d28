"""Does scene-graph prediction help? ``python -m pretrain.ablation RECIPE... --shards DIR --held-out DIR --out DIR``.

Each recipe is trained at several learning rates with one seed, and then with further seeds at the best of these rates.
Every trained model is asked for the hidden nodes of held-out captions (`pretrain.cloze`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from parsers.command import InputError, console, pluralize, progress, run
from pretrain.cloze import OWN
from pretrain.data.order import BatchPlan
from pretrain.options import Settings, as_arguments
from pretrain.recipe import OBJECTIVES, PretrainRecipe
from pretrain.training.settings import find_recipe
from shards.reader import ShardSet
from shards.schema import KINDS

START, END = "<!-- results of pretrain.ablation -->", "<!-- end of results -->"
COLOURS = ("#9ca3af", "#16a34a", "#0891b2", "#c026d3")
COUNTED_STEPS = 30
"""Number of steps whose targets are counted."""

app = typer.Typer(add_completion=False)

Accuracies = Mapping[str, float]
"""ACC@1 by kind of node."""


@dataclass(frozen=True)
class Trial:
    """One training run."""

    recipe: Path
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.recipe.stem}-{self.rate:g}-{self.seed}"


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
    batches = [collator(plan.batch(step)) for step in range(COUNTED_STEPS)]
    counts = torch.stack([count_targets(batch) for batch in batches]).sum(0)
    pairs = sum(batch.samples() for batch in batches)
    return dict(zip(OBJECTIVES, (counts / pairs).tolist(), strict=True))


# --------------------------------------------------------------------------------------------------------------- runs


class _Trials:
    """Runs trials, several at a time, each in processes of its own. A trial that is done is not run again."""

    def __init__(
        self, shards: str, held_out: str, out: Path, settings: Sequence[str], most: int, parallel: int
    ) -> None:
        self._shards, self._held_out, self._out = shards, held_out, out
        self._settings, self._most, self._parallel = settings, most, parallel
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, trials: Sequence[Trial]) -> list[Accuracies]:
        """Returns the accuracies of each trial.

        Raises:
            InputError: a trial has failed; the message names its log.
        """
        with progress("ablation", len(trials), "run") as advance, ThreadPoolExecutor(self._parallel) as pool:
            results = [pool.submit(self._run, trial) for trial in trials]
            try:
                for result in results:
                    result.result()
                    advance(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in self._processes:
                    process.terminate()
                raise
        return [result.result() for result in results]

    def _run(self, trial: Trial) -> Accuracies:
        folder = self._out / trial.name
        settings = [*self._settings, f"seed={trial.seed}", f"optimizer.learning_rate={trial.rate}"]
        train = ["pretrain.run", "--config", str(trial.recipe), "--shards", self._shards, "--held-out", self._held_out]
        train += ["--out", str(folder), "--resume", *as_arguments(settings)]
        probe = ["pretrain.cloze", "--model", str(folder), "--held-out", self._held_out, "--most", str(self._most)]
        with (self._out / f"{trial.name}.log").open("wb") as log:
            for command in (train, probe):
                process = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
                self._processes.append(process)
                if process.wait() != 0:
                    raise InputError(f"python -m {command[0]} failed; {log.name} says why")
        found = json.loads((folder / "cloze" / "cloze.json").read_bytes())["results"]
        return {kind: found[kind][OWN]["acc@1"]["nodes"] for kind in KINDS if kind in found}


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
    lines += _table(
        ["ACC@1, %", *(arm.name for arm in arms), *(f"{last.name} − {arm.name}" for arm in others)],
        [
            [
                kind,
                *(_spread([found[kind] for found in arm.by_seed]) for arm in arms),
                *(_differences(last, arm, kind) for arm in others),
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
    lines += _table(
        ["ACC@1, %, first seed", "learning rate", *kinds, ""],
        [
            [arm.name, f"{rate:g}", *(f"{100 * found[kind]:.1f}" for kind in kinds), "chosen" * (rate == arm.rate)]
            for arm in arms
            for rate, found in arm.by_rate.items()
        ],
    )
    asked = [name for name in OBJECTIVES if name != "token_match" or any(arm.targets.get(name) for arm in arms)]
    lines += [""]
    lines += _table(
        ["mean number of targets of a pair", *asked, "all word pieces"],
        [
            [
                arm.name,
                *(f"{arm.targets[name]:.2f}" for name in asked),
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


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{deviation}"


def _differences(arm: Arm, other: Arm, kind: str) -> str:
    values = [100 * (a[kind] - b[kind]) for a, b in zip(arm.by_seed, other.by_seed, strict=True)]
    return f"{statistics.fmean(values):+.1f} ({min(values):+.1f} to {max(values):+.1f})"


def insert_results(text: str, results: str) -> str:
    """Returns a document with the results between its markers.

    Raises:
        InputError: the document has no such markers.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise InputError(f"the document has no lines {START} and {END} to write the results between")
    return f"{before}{start}\n{results}{end}{after}"


def plot_accuracies(arms: Sequence[Arm], path: Path) -> None:
    """Draws ACC@1 by kind: a bar for the mean of each arm, a point for each seed."""
    from matplotlib.figure import Figure  # late: it takes a second

    kinds = list(arms[0].by_seed[0])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(arms)
    for number, (arm, colour) in enumerate(zip(arms, COLOURS, strict=False)):
        places = np.arange(len(kinds)) + (number - (len(arms) - 1) / 2) * width
        values = np.array([[found[kind] for kind in kinds] for found in arm.by_seed])
        axes.bar(places, values.mean(0), width * 0.9, color=colour, label=arm.name)
        axes.scatter(np.tile(places, len(values)), values.ravel(), s=10, color="black", zorder=3)
    axes.set(xticks=range(len(kinds)), xticklabels=kinds, ylim=(0, 1), ylabel="cloze ACC@1, own image")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


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
        insert_results(text, "")
    out.mkdir(parents=True, exist_ok=True)
    rates = sorted(learning_rate or [5e-4, 1e-3, 2e-3])
    trials = _Trials(shards, held_out, out, settings, most, workers)

    grid = [Trial(recipe, rate, 0) for recipe in files for rate in rates]
    found = dict(zip(grid, trials.run(grid), strict=True))
    by_rate = {recipe: {rate: found[Trial(recipe, rate, 0)] for rate in rates} for recipe in files}
    best = {recipe: choose_rate(by_rate[recipe]) for recipe in files}
    further = [Trial(recipe, best[recipe], seed) for seed in range(1, seeds) for recipe in files]
    found |= dict(zip(further, trials.run(further), strict=True))
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
    plot_accuracies(arms, picture)
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
        document.write_text(insert_results(text, results), encoding="utf-8")
    console.print(results)
    console.print(f"written: {out / 'ablation.md'}, {picture}" + (f", {document}" if document else ""), soft_wrap=True)


if __name__ == "__main__":
    run(app)
