"""How far a training is: read from the files that it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from matcher.run_record import WORK
from matcher.serve.projects.store import Version
from matcher.serve.training.jobs import read_tail
from shards.stage_folder import REPORT, STAGE
from shards.storage.files import read_record

PHASES = ("regions", "graphs", "shards", "start", "training", "report")
"""The parts of a training, in their order; ``start`` is left out if there is a model to start from."""
MOST_POINTS = 400
_LEFT = re.compile(r"\| (?:(\d+) days?, )?(\d+):(\d\d):(\d\d) left$", re.M)
_BANNER = re.compile(r"^  time +about (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)", re.M)


@dataclass(frozen=True)
class Phase:
    """A part of a training."""

    name: str
    state: Literal["waiting", "running", "done"]
    done: int = 0
    total: int = 0
    """0: nobody knows"""


@dataclass(frozen=True)
class Point:
    """A point of the curve."""

    step: int
    loss: float
    accuracy: float | None
    """the share of true pairs that are before all false ones"""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    phases: tuple[Phase, ...]
    seconds_left: int | None
    """of the phase that runs, as measured; None before it was measured"""
    curves: dict[str, tuple[Point, ...]]
    """by the phase that trains"""


def read_progress(version: Version) -> TrainingProgress:
    """Reads how far a training is."""
    work, job = version.matcher / WORK, version.job
    names = [name for name in PHASES if name != "start" or job.start is None]
    curves: dict[str, tuple[Point, ...]] = {
        name: _read_curve(work / name) for name in ("start", "training") if name in names
    }
    photos = sum(1 for _ in version.pictures.iterdir()) if version.pictures.is_dir() else 0
    found: list[Phase] = []
    for name in names:
        done, total, ended = _count(name, work, version, photos, curves)
        waits = any(phase.state != "done" for phase in found)
        state: Literal["waiting", "running", "done"] = "done" if ended else "waiting" if waits else "running"
        found.append(Phase(name, state, total if ended else done, total))
    running = next((phase.name for phase in found if phase.state == "running"), None)
    return TrainingProgress(tuple(found), _find_seconds_left(version, running, curves), curves)


def _count(
    name: str, work: Path, version: Version, photos: int, curves: Mapping[str, Sequence[Point]]
) -> tuple[int, int, bool]:
    """Returns how much of a part is done, how much there is, and whether it has ended."""
    if version.is_trained:
        return 0, 0, True
    if name == "regions" and version.job.given_regions:
        return photos, photos, True
    if name in ("regions", "graphs", "shards"):
        return min(_count_rows(work / name), photos), photos, (work / name / REPORT).is_file()
    if name == "report":
        return 0, 0, False
    steps = _read_steps(work / name)
    curve = curves[name]
    # The model of the second training is moved to its place, and the first one's stays.
    ended = (work / name / "model/config.json").is_file() or (
        name == "training" and (version.matcher / "model").is_dir()
    )
    return curve[-1].step if curve else 0, steps, ended


def _count_rows(folder: Path) -> int:
    """Returns about how many inputs of a stage are done."""
    parts = len(list(folder.glob("part-*.stats.json")))
    if not parts:
        return 0
    size = read_record(folder / STAGE).get("partition_size", 1)
    return parts * size if isinstance(size, int) else 0


def _read_steps(run: Path) -> int:
    try:
        return int(yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))["recipe"]["steps"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):  # it has not begun
        return 0


def _read_curve(run: Path) -> tuple[Point, ...]:
    """Returns the losses that a run has logged, thinned out."""
    points = []
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    for line in lines:
        try:
            record = json.loads(line)
            accuracies = [value for key, value in record.items() if key in ("accuracy/retrieval", "accuracy/match")]
            points.append(Point(record["step"], record["loss"], accuracies[0] if accuracies else None))
        except (ValueError, KeyError, TypeError):  # a line that is being written, or one of an evaluation
            continue
    stride = -(-len(points) // MOST_POINTS) or 1
    return tuple(points[::-1][::stride][::-1])


def _find_seconds_left(version: Version, running: str | None, curves: Mapping[str, Sequence[Point]]) -> int | None:
    """Returns the seconds that the part which runs will take, as the training has measured them."""
    if version.job.state != "running" or running not in ("start", "training"):
        return None
    text = read_tail(version)
    banner = max((match.end() for match in _BANNER.finditer(text)), default=-1)
    found = [*_LEFT.finditer(text, max(banner, 0))] or [*_BANNER.finditer(text)]
    if not found or (banner < 0 and not curves[running]):
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in found[-1].groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
