"""The best evaluation of a run so far, and whether to stop because none was better for a while."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import TypedDict

from parsers.command import InputError
from pretrain.training.settings import Best


class BestState(TypedDict):
    """What a checkpoint holds of a `BestTracker`."""

    best: float | None
    evaluations_since_best: int


class BestTracker:
    """Compares each evaluation with the best one before. Without settings no evaluation is ever the best."""

    def __init__(self, settings: Best | None) -> None:
        self._settings = settings
        self._best: float | None = None
        self._evaluations_since_best = 0

    def check_metric(self, metrics: Mapping[str, float]) -> None:
        """Checks that the metrics of an evaluation have the one that decides.

        Raises:
            InputError: the recipe names another metric.
        """
        if self._settings is not None and self._settings.metric not in metrics:
            known = ", ".join(metrics) or "none"
            raise InputError(f"best.metric: there is no {self._settings.metric!r}; there are {known}")

    def is_best(self, metrics: Mapping[str, float]) -> bool:
        """Counts an evaluation, and says whether it is better than all before."""
        if self._settings is None:
            return False
        value = metrics[self._settings.metric]
        if self._best is not None and not (value < self._best if self._settings.mode == "min" else value > self._best):
            self._evaluations_since_best += 1
            return False
        self._best, self._evaluations_since_best = value, 0
        return True

    def stops_early(self) -> bool:
        """Whether the recipe's patience has come to its end."""
        return self._settings is not None and 0 < self._settings.patience <= self._evaluations_since_best

    def state(self) -> BestState:
        """The state to continue from."""
        return {"best": self._best, "evaluations_since_best": self._evaluations_since_best}

    def restore(self, state: BestState) -> None:
        """Continues from the state of a checkpoint."""
        self._best, self._evaluations_since_best = state["best"], state["evaluations_since_best"]
