"""The results of an ablation: which learning rate is the best, what is predicted how often, and the tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pretrain.ablation.spreads import format_differences, format_spread, make_markdown_table
from pretrain.ablation.trials import Accuracies
from pretrain.data.order import BatchPlan
from pretrain.recipe import OBJECTIVES, PretrainRecipe
from shards.reader import ShardSet
from shards.schema import KINDS

COUNTED_STEPS = 30
"""Number of steps whose targets are counted."""


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
    asked = [name for name in OBJECTIVES if name != "token_match" or any(arm.targets.get(name) for arm in arms)]
    lines += [""]
    lines += make_markdown_table(
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


def _of_kind(arm: Arm, kind: str) -> list[float]:
    """The accuracies of each seed."""
    return [found[kind] for found in arm.by_seed]
