"""The card of a model: a README with what a hub shows of it, made of what the run knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel

from parsers.command import make_visible
from shards.storage.files import write_atomic

CARD = "README.md"
FILL_IN = "FILL IN"
"""marks what only the publisher knows"""


@dataclass(frozen=True)
class ModelFacts:
    """What a run says of its model."""

    title: str
    purpose: str
    """what the model does, in a sentence"""
    data: Mapping[str, str]
    """what it was trained on, by name"""
    data_name: str
    """the data that the metrics were measured on"""
    recipe: Mapping[str, object]
    """the recipe of the run"""


def describe_recipe(recipe: BaseModel) -> dict[str, object]:
    """Returns a recipe without the paths in it, which are those of one machine."""
    paths = {name for name, value in recipe if isinstance(value, Path)}
    described: dict[str, object] = recipe.model_dump(mode="json", exclude=paths, exclude_none=True)
    return described


def write_card(folder: Path, facts: ModelFacts, metrics: Mapping[str, float], step: int) -> None:
    """Writes the card of a model.

    Args:
        folder: the folder of the model.
        facts: what the run says of it.
        metrics: what was measured of these very weights, by name; empty where nothing was.
        step: the steps that were trained.
    """
    from huggingface_hub import EvalResult, ModelCardData  # imported late, because --help should answer at once

    measured = {name: value for name, value in metrics.items() if math.isfinite(value)}
    results = [
        EvalResult(
            task_type=facts.title.lower(),
            dataset_type="private",
            dataset_name=facts.data_name,
            metric_type=name,
            metric_value=value,
        )
        for name, value in measured.items()
    ]
    data = ModelCardData(
        language="en",
        license="other",
        license_name=FILL_IN,
        license_link=FILL_IN,
        library_name="ernie-vil-pytorch",
        tags=["ernie-vil", "vision-language", "scene-graph"],
        model_name=facts.title if results else None,
        eval_results=results or None,
    )
    recipe = yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True)
    fence = "`" * (3 + recipe.count("`"))
    sections = [
        f"---\n{data.to_yaml(line_break=chr(10))}\n---",
        f"# {facts.title}",
        f"{facts.purpose}\n\n{FILL_IN}: what it is for, and what it is not for.",
        "## Metrics",
        _tabulate({name: f"{value:.4g}" for name, value in measured.items()}, facts.data_name)
        if measured
        else "Nothing was measured of these weights.",
        "## Training",
        _tabulate({**facts.data, "steps": f"{step:,}"}, ""),
        f"{fence}yaml\n{recipe}{fence}",
        f"## Licence\n\n{FILL_IN}: that of the weights, and of the captions, pictures and detector behind them.",
    ]
    write_atomic(folder / CARD, ("\n\n".join(sections) + "\n").encode())


def _tabulate(rows: Mapping[str, str], heading: str) -> str:
    cells = [["", heading], ["---", "---"], *([name, value] for name, value in rows.items())]
    return "\n".join(f"| {_plain(left)} | {_plain(right)} |" for left, right in cells)


def _plain(text: str) -> str:
    """A cell of a table: text on one line, in which Markdown sees no end of the cell and no link."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in make_visible(" ".join(text.split())))
