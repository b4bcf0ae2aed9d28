"""Runs a stage partition by partition, so that a killed run loses only unfinished parts.

The files of a part appear complete or not at all; ``part-00012.stats.json`` appears last and says that the part is
complete. A rerun skips complete parts. A rerun that would mix two settings in one folder is refused.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Protocol

from rich.table import Table

from parsers.command import InputError, console, progress, shorten_json
from pipeline.execution.engines import Engine, P, WorkerFactory
from pipeline.execution.inputs import Inputs
from pipeline.execution.outputs import FILES, list_outputs, record_outputs, remove_outputs
from pipeline.execution.parts import path_of_marker, read_marker
from pipeline.files import is_inside
from shards.stage_folder import REPORT, STAGE
from shards.storage.files import AnyPath, check_free_disk, read_record, write_record
from shards.storage.lock import LOCK, lock_folder
from shards.storage.scratch import remove_leftovers


class Stage(WorkerFactory[P], Protocol[P]):
    """What the executor needs to know of a stage. A stage is pickled for the workers, so it holds options only."""

    def inputs(self) -> Iterable[AnyPath]:
        """Returns the files and folders that the stage reads. The output folder must hold none of them."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """Returns everything that decides the output, as JSON values: inputs, options and versions."""
        ...

    def partitions(self) -> Iterator[P]:
        """Yields the partitions in order. Runs with the same fingerprint have the same partitions."""
        ...

    def total(self) -> int | None:
        """Returns the number of partitions, or None if it is not known beforehand."""
        ...

    def estimated_bytes(self) -> int:
        """Returns about how many bytes will be written."""
        ...

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Merges what the parts left, once all are complete.

        ``statistics`` are the sums over the parts; what holds for the whole may be added to them.
        """
        ...


@dataclass(frozen=True)
class StageReport:
    """The merged statistics of all parts."""

    statistics: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    """the number of rejected rows by reason"""
    parts: int = 0
    skipped: int = 0
    """the number of parts that an earlier run had completed"""
    seconds: float = 0.0
    files: set[str] = field(default_factory=set)
    """the markers of the parts and the files that they list"""


# ------------------------------------------------------------------------------------------------------- running it


def run_stage(stage: Stage[P], out: AnyPath, engine: Engine, *, max_rejects: float, overwrite: bool) -> StageReport:
    """Makes all parts that are not complete yet, calls `Stage.finish`, and writes ``report.json``.

    Raises:
        InputError: the folder belongs to another stage or other options or cannot be written, another run writes to
            it, there is too little disk space, a worker died, an input changed, or more than ``max_rejects`` (a share)
            of the rows were rejected.
    """
    if any(is_inside(source, out) for source in stage.inputs()):
        raise InputError(f"{out} holds an input of this run; name another --out folder")
    with lock_folder(out):
        try:
            _claim(stage, out, overwrite)
            before = list_outputs(out)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error}") from error
        marked: set[str] = set()
        try:
            report = _run_claimed(stage, out, engine)
            marked = report.files
        finally:
            with suppress(OSError):  # what is not recorded is not removed later
                record_outputs(out, before, marked)
    _check_rejects(out, report, max_rejects)
    return report


def _run_claimed(stage: Stage[P], out: AnyPath, engine: Engine) -> StageReport:
    started = time.monotonic()
    inputs = Inputs.observe(stage.inputs())
    check_free_disk(out, stage.estimated_bytes(), stage.name)
    done = skipped = 0
    with progress(stage.name, stage.total(), "part") as advance:

        def pending() -> Iterator[tuple[int, P]]:
            nonlocal done, skipped
            for number, partition in enumerate(stage.partitions()):
                done += 1
                if read_marker(out, number) is None:
                    yield number, partition
                else:
                    skipped += 1
                    advance(1)

        def follow(parts: int, rows: int = 0) -> None:
            advance(parts, rows)
            if parts:
                inputs.check_files()

        engine.run(stage, out, pending(), follow)
    inputs.check()
    try:
        merged = _merge_reports(out, done)
        stage.finish(out, done, merged.statistics)
        remove_leftovers(out, below=True)  # workers of a killed run may have outlived it for a moment
        report = replace(merged, parts=done, skipped=skipped, seconds=time.monotonic() - started)
        _write_report(stage, out, report, engine)
    except OSError as error:
        raise InputError(
            f"{out}: all parts are complete, but the rest could not be written: {error}. Put it right and run the "
            "same command again"
        ) from error
    return report


def _merge_reports(out: AnyPath, parts: int) -> StageReport:
    """Adds up the statistics and rejects of the first ``parts`` parts."""
    report = StageReport()
    for number in range(parts):
        marker = read_marker(out, number)
        if marker is None:
            raise InputError(f"{out}: part {number} vanished while the stage ran; run the same command again")
        report.statistics.update(marker.statistics)
        report.rejects.update(marker.rejects)
        report.files.update([path_of_marker(out, number).name, *marker.files])
    return report


# --------------------------------------------------------------------------------------------- before and after it


def _claim(stage: Stage[P], out: AnyPath, overwrite: bool) -> None:
    """Writes ``stage.json`` into the output folder, or refuses if the folder belongs to something else."""
    wanted = {"stage": stage.name, **stage.fingerprint()}
    path = out / STAGE
    # A run that failed before its first part, for example on bad input, left nothing to protect.
    if path.exists() and any(out.glob("part-*.stats.json")):
        found = read_record(path)
        if found.get("stage") != stage.name:
            raise InputError(f"{out} holds the output of the stage {found.get('stage')!r}; name another --out folder")
        differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        if differing and not overwrite:
            changes = "; ".join(
                f"{key}: {shorten_json(found.get(key))} -> {shorten_json(wanted.get(key))}" for key in differing
            )
            raise InputError(
                f"{out} holds the output of a run with other settings ({changes}). "
                "Name another --out folder, or add --overwrite to replace it"
            )
        if overwrite:
            remove_leftovers(out, below=True)
            remove_outputs(out)
    elif not path.exists() and _holds_anything(out):
        raise InputError(f"{out} is not empty and was not written by this command; name another --out folder")
    remove_leftovers(out, below=True)
    write_record(wanted, path)


def _holds_anything(out: AnyPath) -> bool:
    """Returns whether the folder holds anything but what a run left that was killed while it claimed the folder."""
    return out.exists() and any(
        child.name not in (LOCK, FILES) and not child.name.startswith(f".{STAGE}.") for child in out.iterdir()
    )


def _write_report(stage: Stage[P], out: AnyPath, report: StageReport, engine: Engine) -> None:
    rows = report.statistics["rows"]
    packages = ("ernie-vil-pytorch", "pyarrow", "numpy", "spacy", "tokenizers", "torch", "torchvision", "pillow")
    record = {
        "stage": stage.name,
        "parts": report.parts,
        "parts_from_earlier_runs": report.skipped,
        "statistics": dict(sorted(report.statistics.items())),
        "rejects": dict(sorted(report.rejects.items())),
        "seconds": round(report.seconds, 3),
        "rows_per_second": round(rows / report.seconds, 1) if report.seconds else None,
        "engine": engine.kind,
        "workers": engine.workers,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }
    write_record(record, out / REPORT)


def _check_rejects(out: AnyPath, report: StageReport, max_rejects: float) -> None:
    rejected, rows = report.rejects.total(), report.statistics["rows"]
    if rows and rejected > max_rejects * rows:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in report.rejects.most_common(5))
        raise InputError(
            f"{rejected:,} of {rows:,} rows were rejected, more than --max-rejects {max_rejects:g}: {reasons}. "
            f"Each is listed in {out / 'rejects'}. The rest is written; a higher --max-rejects accepts it"
        )


def print_report(title: str, out: AnyPath, report: StageReport) -> None:
    """Prints the closing summary of a stage."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, count in sorted(report.statistics.items(), key=lambda item: (item[0] != "rows", item[0])):
        table.add_row(name, f"{count:,}")
    for reason, count in report.rejects.most_common():
        table.add_row(f"rejected: {reason}", f"{count:,}")
    table.add_row("parts", f"{report.parts:,}" + (f" ({report.skipped:,} from before)" if report.skipped else ""))
    table.add_row("seconds", f"{report.seconds:.1f}")
    table.add_row("written to", str(out))
    console.print(table)
