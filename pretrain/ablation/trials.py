"""A training run of a recipe, and the cloze test of what it has learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.cloze import OWN
from pretrain.options import as_arguments
from shards.schema import KINDS

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

    def commands(self, shards: str, held_out: str, out: Path, *, settings: Sequence[str], most: int) -> list[list[str]]:
        """Returns what trains the model and asks it for hidden nodes. A run that is finished is not trained again.

        Args:
            shards: to train on.
            held_out: to evaluate on.
            out: the folder of all trials.
            settings: changes of the recipe, as KEY=VALUE.
            most: hidden nodes of each kind, at most.
        """
        folder = str(out / self.name)
        changed = as_arguments([*settings, f"seed={self.seed}", f"optimizer.learning_rate={self.rate}"])
        files = ["--config", str(self.recipe), "--shards", shards, "--held-out", held_out, "--out", folder]
        return [
            ["pretrain.run", *files, "--resume", *changed],
            ["pretrain.cloze", "--model", folder, "--held-out", held_out, "--most", str(most)],
        ]

    def read_accuracies(self, out: Path, shown: str = OWN) -> Accuracies:
        """Reads the results of the cloze test, where the captions are ``shown`` with their own or another image."""
        found = json.loads((out / self.name / "cloze" / "cloze.json").read_bytes())["results"]
        return {kind: found[kind][shown]["acc@1"]["nodes"] for kind in KINDS if kind in found}
