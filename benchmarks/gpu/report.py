"""The report in ``results.json`` and ``results.md``, which are written anew after every step."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from benchmarks.gpu.steps import Figure
from shards.storage.files import write_atomic, write_indented_json

PACKAGES = ("torch", "torchvision", "deepspeed", "numpy", "transformers")
Status = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a step."""

    step: str
    status: Status
    seconds: float
    reason: str = ""
    """why the step failed or was skipped"""
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def machine() -> dict[str, str]:
    """Returns the card and its driver, the versions and the commit, as far as they are known without CUDA."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output(git) or "unknown",
        "card, memory, driver": _output(query) or "none",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


class Report:
    """The report in a folder."""

    def __init__(self, folder: Path, steps: Sequence[str], facts: dict[str, str]) -> None:
        """Begins the report.

        Args:
            folder: for ``results.md`` and ``results.json``.
            steps: names of all steps of the run.
            facts: about the machine and the run.
        """
        self.outcomes: list[Outcome] = []
        self._folder, self._steps, self._facts = folder, steps, facts
        self._write()

    def add(self, outcome: Outcome) -> None:
        """Adds the outcome of a step, and writes the report."""
        self.outcomes.append(outcome)
        self._write()

    @property
    def finished(self) -> bool:
        """Whether all steps have ended."""
        return len(self.outcomes) == len(self._steps)

    def count(self, status: Status) -> int:
        """Counts the steps that have ended with this status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    def summary(self) -> str:
        """Returns one line on the whole run."""
        counts = ", ".join(f"{self.count(status)} {status}" for status in ("pass", "fail", "skipped"))
        return counts if self.finished else f"{counts}; not finished: {len(self._steps) - len(self.outcomes)} to come"

    def _write(self) -> None:
        left = list(self._steps[len(self.outcomes) :])
        record: dict[str, object] = {"facts": self._facts, "finished": self.finished, "to come": left}
        record["steps"] = [asdict(outcome) for outcome in self.outcomes]
        write_indented_json(record, self._folder / "results.json")
        write_atomic(self._folder / "results.md", self._table().encode())

    def _table(self) -> str:
        lines = [f"- {name}: {value}" for name, value in self._facts.items()]
        lines += ["", self.summary(), "", "| step | result | seconds | figures |", "|---|---|---|---|"]
        for outcome in self.outcomes:
            found = [f"{name} {_shown(value)}" for name, value in outcome.figures.items()]
            texts = [f"**{outcome.reason}**"] if outcome.reason else []
            texts += [*(f"**{note}**" for note in outcome.notes), ", ".join(found)]
            cell = "; ".join(filter(None, texts)).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {outcome.step} | {outcome.status} | {outcome.seconds:.1f} | {cell} |")
        return "\n".join([*lines, *(f"| {name} | – | | |" for name in self._steps[len(self.outcomes) :])]) + "\n"


def _shown(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value
