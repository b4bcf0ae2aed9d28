"""Accuracies of a suite by kind, with intervals, and what a model reaches that does not see the images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table

from finetune.compose.scoring import BLIND, PairScores
from finetune.compose.suites import CaptionPair
from pretrain.cloze import OWN
from shards.schema import Array

SOLVED_BLIND = 0.75
"""A kind is solved blind if a blind score is right this often: half way from guessing to being always right."""
_Z = 1.959964
"""The quantile of the normal distribution for an interval of 95 %."""

Verdict = Literal["solved blind", "above chance", ""]


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """How often the caption has a higher score than the negative caption. Equal scores are wrong."""

    accuracy: float
    low: float
    high: float
    """Wilson's interval of 95 %"""

    @classmethod
    def of(cls, right: Array) -> PairAccuracy:
        """Counts the right answers in bool [N]; N is at least 1."""
        return cls(float(right.mean()), *estimate_wilson_interval(int(right.sum()), len(right)))


@dataclass(frozen=True, slots=True)
class KindResult:
    """The pairs of one kind."""

    kind: str
    pairs: int
    accuracies: Mapping[str, PairAccuracy]
    """by way of scoring"""

    @property
    def best_blind(self) -> str:
        """The blind way of scoring that is right most often."""
        return max((way for way in BLIND if way in self.accuracies), key=lambda way: self.accuracies[way].accuracy)

    @property
    def verdict(self) -> Verdict:
        """What a model reaches that does not see the images."""
        blind = self.accuracies[self.best_blind]
        if blind.low <= 0.5:
            return ""
        return "solved blind" if blind.accuracy >= SOLVED_BLIND else "above chance"


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What is right of a suite."""

    kinds: tuple[KindResult, ...]
    total: KindResult
    """of all pairs"""

    @property
    def mean_of_kinds(self) -> dict[str, float]:
        """The mean accuracy over the kinds, by way of scoring: every kind counts the same."""
        return {
            way: statistics.fmean(of_kind.accuracies[way].accuracy for of_kind in self.kinds)
            for way in self.total.accuracies
        }


def estimate_wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Returns Wilson's interval of 95 % for a share. Of 10 hits in 10 it is 0.72 to 1, not 1 to 1."""
    share, spread = hits / count, _Z**2 / count
    middle = share + spread / 2
    radius = _Z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = (middle - radius) / (1 + spread), (middle + radius) / (1 + spread)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding must not push the share out


def count_right(pairs: Sequence[CaptionPair], scores: PairScores) -> SuiteResult:
    """Counts the right answers by kind, in the order of the pairs, and of all pairs."""
    right = {way: of_pairs[:, 0] > of_pairs[:, 1] for way, of_pairs in scores.items()}
    numbers: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        numbers.setdefault(pair.kind, []).append(number)

    def count(kind: str, own: Sequence[int]) -> KindResult:
        return KindResult(kind, len(own), {way: PairAccuracy.of(hits[own]) for way, hits in right.items()})

    return SuiteResult(tuple(count(kind, own) for kind, own in numbers.items()), count("all", range(len(pairs))))


def make_record(result: SuiteResult) -> dict[str, object]:
    """Returns the results as JSON values."""

    def record(of_kind: KindResult) -> dict[str, object]:
        accuracies = {way: asdict(accuracy) for way, accuracy in of_kind.accuracies.items()}
        return {"pairs": of_kind.pairs, "verdict": of_kind.verdict, "accuracies": accuracies}

    return {
        "kinds": {of_kind.kind: record(of_kind) for of_kind in result.kinds},
        "all": record(result.total),
        "mean_of_kinds": result.mean_of_kinds,
    }


def make_table(title: str, result: SuiteResult) -> Table:
    """Returns a table with a row for each kind. Accuracies are in per cent."""
    ways = [way for way in (OWN, *BLIND) if way in result.total.accuracies]
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("kind", no_wrap=True)
    for name in ("pairs", OWN, "95 %", *ways[1:]):
        table.add_column(name, justify="right", no_wrap=name == "95 %")
    table.add_column("blind", no_wrap=True)
    for of_kind in (*result.kinds, result.total):
        own = of_kind.accuracies[OWN]
        interval = f"{100 * own.low:.1f}–{100 * own.high:.1f}"
        shares = [f"{of_kind.accuracies[way].accuracy:.1%}" for way in ways]
        table.add_row(of_kind.kind, f"{of_kind.pairs:,}", shares[0], interval, *shares[1:], of_kind.verdict)
    means = result.mean_of_kinds
    table.add_row("mean of kinds", "", f"{means[OWN]:.1%}", "", *(f"{means[way]:.1%}" for way in ways[1:]), "")
    return table


def say_what_is_solved_blind(result: SuiteResult) -> str | None:
    """Returns a sentence that names the kinds that need no image, or None if all of them need one."""
    solved = [
        f"{of_kind.kind} ({of_kind.best_blind} {of_kind.accuracies[of_kind.best_blind].accuracy:.1%})"
        for of_kind in (*result.kinds, result.total)
        if of_kind.verdict == "solved blind"
    ]
    if not solved:
        return None
    return (
        f"a model that does not see the images solves {', '.join(solved)}: an accuracy there says little about what "
        "it sees"
    )
