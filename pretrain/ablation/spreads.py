"""Results over several seeds: Markdown tables, plots, and their place in a document."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from parsers.command import InputError, console, say

COLOURS = ("#9ca3af", "#16a34a", "#0891b2", "#c026d3")


def make_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def format_spread(values: Sequence[float]) -> str:
    """Returns the mean of some shares in per cent, and the standard deviation of several, such as ``61.3 ± 0.8``."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{deviation}"


def format_differences(values: Sequence[float], others: Sequence[float]) -> str:
    """Returns the mean, the lowest and the highest of the differences seed by seed, in percentage points."""
    differences = [100 * (value - other) for value, other in zip(values, others, strict=True)]
    return f"{statistics.fmean(differences):+.1f} ({min(differences):+.1f} to {max(differences):+.1f})"


@dataclass(frozen=True)
class ResultsPlace:
    """Where results go: a Markdown file and a plot in the folder of the runs, or in a document and beside it."""

    out: Path
    """folder of the runs"""
    name: str
    """of the file and the plot, without ending"""
    document: Path | None
    """has two lines that the results go between; None: there is no document"""
    lines: tuple[str, str]

    @property
    def plot(self) -> Path:
        """The file of the plot."""
        return (self.out if self.document is None else self.document.parent / "images") / f"{self.name}.png"

    @property
    def plot_link(self) -> str:
        """The plot as the Markdown names it."""
        return self.plot.name if self.document is None else f"images/{self.plot.name}"

    def check(self) -> None:
        """Refuses a document without the lines now, rather than after the runs.

        Raises:
            InputError: the document has no such lines.
        """
        if self.document is not None:
            insert_results(self.document.read_text(encoding="utf-8"), "", *self.lines)

    def write(self, results: str) -> None:
        """Writes the results and prints them."""
        path = self.out / f"{self.name}.md"
        path.write_text(results, encoding="utf-8")
        if self.document is not None:
            text = self.document.read_text(encoding="utf-8")
            self.document.write_text(insert_results(text, results, *self.lines), encoding="utf-8")
        console.print(results)
        say(f"written: {path}, {self.plot}" + (f", {self.document}" if self.document else ""))


def insert_results(text: str, results: str, start: str, end: str) -> str:
    """Returns a document with the results between the lines ``start`` and ``end``.

    Raises:
        InputError: the document has no such lines.
    """
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise InputError(f"the document has no lines {start} and {end} to write the results between")
    return f"{before}{start}\n{results}{end}{after}"


def plot_spreads(by_arm: Mapping[str, Sequence[Mapping[str, float]]], path: Path, *, label: str) -> None:
    """Draws shares by kind: a bar for the mean of each arm, a point for each seed.

    Args:
        by_arm: for each arm and seed, the share of each kind.
        path: of the picture.
        label: what is shown.
    """
    from matplotlib.figure import Figure  # late: it takes a second

    kinds = list(next(iter(by_arm.values()))[0])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(by_arm)
    for number, ((name, by_seed), colour) in enumerate(zip(by_arm.items(), cycle(COLOURS), strict=False)):
        places = np.arange(len(kinds)) + (number - (len(by_arm) - 1) / 2) * width
        values = np.array([[found[kind] for kind in kinds] for found in by_seed])
        axes.bar(places, values.mean(0), width * 0.9, color=colour, label=name)
        axes.scatter(np.tile(places, len(values)), values.ravel(), s=10, color="black", zorder=3)
    axes.set(xticks=range(len(kinds)), xticklabels=kinds, ylim=(0, 1), ylabel=label)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
