"""The report of a comparison: ``tasks.json`` with all scores, and ``tasks.md`` with a table, which is also printed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from finetune.comparison.runs import CHANCE, COMPARED, LearningRate, Results
from parsers.command import console
from shards.storage.files import write_atomic, write_json


def write_comparison(
    results: Mapping[str, Results], rates: Mapping[str, Mapping[str, LearningRate]], starts: Sequence[str], out: Path
) -> None:
    """Writes and prints the scores.

    Args:
        results: by task, the scores of each start and of guessing.
        rates: by task and start, the chosen learning rate; ``tasks.json`` has it as ``learning_rate``.
        starts: the names of the starts in the order of the columns.
        out: folder of the two files.
    """
    with_rates = {
        name: {
            label: {**scores, **({"learning_rate": rates[name][label]} if label in rates[name] else {})}
            for label, scores in by_start.items()
        }
        for name, by_start in results.items()
    }
    write_json(with_rates, out / "tasks.json")
    header, body = ["task", "score", CHANCE, *starts], make_rows(results, starts)
    table = Table(*header, title="Downstream tasks, per cent", title_justify="left")
    for row in body:
        table.add_row(*row)
    console.print(table)
    lines = [header, ["---"] * len(header), *body]
    write_atomic(out / "tasks.md", "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())


def make_rows(results: Mapping[str, Results], starts: Sequence[str]) -> list[list[str]]:
    """Returns a row for each score that is shown: task, score and split, then chance and each start in per cent."""
    rows = []
    for name, by_start in results.items():
        for split in COMPARED[name].test:
            for score in COMPARED[name].scores:
                cells = [_format_cell(by_start[label].get(f"{split}/{score}")) for label in (CHANCE, *starts)]
                rows.append([name, f"{score}, {split}", *cells])
    return rows


def _format_cell(values: Sequence[float] | None) -> str:
    """Returns the mean, and the standard deviation of several values, such as ``61.3 ± 0.8``."""
    if values is None:
        return "-"
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"
