"""Runs a stage: partition by partition, over worker processes, so that a killed run loses nothing but unfinished parts.

A part appears whole or not at all. Its files are written under temporary names, flushed and renamed; then its
``part-00012.stats.json`` appears, which marks it as complete. A rerun skips complete parts; a rerun that would mix
two settings in one folder is refused.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import platform
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rich.table import Table

from shards.console import console, progress
from shards.errors import InputError

PARTS_IN_FLIGHT = 3
"""Partitions handed out per worker ahead of time: enough to keep it busy, few enough to keep memory flat."""
TEMPORARY = ".tmp"


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that a stage could not use."""

    source: str
    position: str
    """Where in the source: ``line 12``, ``annotations[3]``, ``byte 4711``"""
    reason: str


class Part:
    """What a stage writes of one partition: files, rejects and statistics."""

    def __init__(self, out: Path, number: int) -> None:
        self.number = number
        self.name = f"part-{number:05d}"
        self.statistics: Counter[str] = Counter()
        self.rejects: list[Reject] = []
        self._out = out
        self._files: list[str] = []

    @contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        """A new file of this part, ``file`` relative to the output folder. It appears when the part is complete."""
        path = self._out / (file + TEMPORARY)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            yield stream
            _flush(stream)
        self._files.append(file)

    def complete(self) -> None:
        """Puts all files in place, the marker last."""
        if self.rejects:
            with self.open(f"rejects/{self.name}.jsonl") as stream:
                for reject in self.rejects:
                    row = {"source": reject.source, "position": reject.position, "reason": reject.reason}
                    stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        for file in self._files:
            (self._out / (file + TEMPORARY)).replace(self._out / file)
        record = {
            "files": {file: (self._out / file).stat().st_size for file in self._files},
            "statistics": dict(sorted(self.statistics.items())),
            "rejects": dict(sorted(Counter(reject.reason for reject in self.rejects).items())),
        }
        write_atomic(marker_of(self._out, self.number), json.dumps(record, indent=1).encode() + b"\n")


class Stage(Protocol):
    """What the executor needs to know of a stage. A stage is pickled to the workers, so it holds options only."""

    @property
    def name(self) -> str:
        """What the stage is called in messages and reports."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the output: inputs, options, versions. JSON values."""
        ...

    def partitions(self) -> Iterator[Any]:
        """The partitions in order, picklable; the same ones in every run with the same fingerprint."""
        ...

    def total(self) -> int | None:
        """The number of partitions, if it is known beforehand."""
        ...

    def worker(self) -> Callable[[Any, Part], None]:
        """Built once in each worker: the function from a partition to its part."""
        ...

    def estimated_bytes(self) -> int:
        """About how much will be written."""
        ...

    def finish(self, out: Path, parts: int) -> None:
        """Merges what the parts left, once all are complete."""
        ...


@dataclass(frozen=True)
class Report:
    """The merged statistics of all parts."""

    statistics: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    """by reason"""
    parts: int = 0
    skipped: int = 0
    """parts that an earlier run had completed"""
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------------- running it


def run_stage(stage: Stage, out: Path, *, workers: int, max_rejects: float, overwrite: bool) -> Report:
    """Runs all partitions that are not complete yet, then `Stage.finish`, and writes ``report.json``.

    Raises:
        InputError: the folder belongs to another stage or other options, there is too little disk space, a worker
            died, or more than ``max_rejects`` (a share) of the rows were rejected.
    """
    started = time.monotonic()
    _claim(stage, out, overwrite)
    _check_disk(stage, out)
    done = skipped = 0
    with progress(stage.name, stage.total()) as advance:

        def pending() -> Iterator[tuple[int, Any]]:
            nonlocal done, skipped
            for number, partition in enumerate(stage.partitions()):
                done += 1
                if _is_complete(out, number):
                    skipped += 1
                    advance(1)
                else:
                    yield number, partition

        _run_parts(stage, out, pending(), workers, advance)
    stage.finish(out, done)
    merged = merge_reports(out, done)
    report = Report(merged.statistics, merged.rejects, done, skipped, time.monotonic() - started)
    _write_report(stage, out, report, workers)
    _check_rejects(out, report, max_rejects)
    return report


def _run_parts(
    stage: Stage, out: Path, parts: Iterator[tuple[int, Any]], workers: int, advance: Callable[[int], None]
) -> None:
    if workers == 1:
        process = None
        for number, partition in parts:
            process = process or _build(stage)
            _run_part(process, out, number, partition)
            advance(1)
        return
    # One thread of linear algebra in each: more would stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Spawned, not forked: a fork would copy the threads' locks of Arrow and torch in whatever state they are.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(stage, out)
    )
    running: set[Future[None]] = set()
    try:
        for number, partition in parts:
            running.add(pool.submit(_run_part_in_worker, number, partition))
            if len(running) >= workers * PARTS_IN_FLIGHT:
                running = _collect(running, advance)
        while running:
            running = _collect(running, advance)
    except BrokenProcessPool as error:
        raise InputError(
            f"{stage.name}: a worker process died (killed, or out of memory). Finished parts are kept: run the same "
            "command again, with fewer --workers if memory was short"
        ) from error
    finally:
        for process_ in list((pool._processes or {}).values()) if running else []:
            process_.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _build(stage: Stage) -> Callable[[Any, Part], None]:
    process = stage.worker()
    gc.freeze()  # models and modules stay: the collector need not go through them again and again
    return process


def _collect(running: set[Future[None]], advance: Callable[[int], None]) -> set[Future[None]]:
    finished, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
        advance(1)
    return rest


def _run_part(process: Callable[[Any, Part], None], out: Path, number: int, partition: Any) -> None:
    part = Part(out, number)
    process(partition, part)
    part.complete()


_worker: tuple[Callable[[Any, Part], None], Path] | None = None


def _start_worker(stage: Stage, out: Path) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers.
    _worker = _build(stage), out


def _run_part_in_worker(number: int, partition: Any) -> None:
    assert _worker is not None
    _run_part(_worker[0], _worker[1], number, partition)


# ----------------------------------------------------------------------------------------------- files and markers


def marker_of(out: Path, number: int) -> Path:
    """The file that says that part ``number`` is complete."""
    return out / f"part-{number:05d}.stats.json"


def _is_complete(out: Path, number: int) -> bool:
    try:
        files = json.loads(marker_of(out, number).read_bytes())["files"]
        return all((out / file).stat().st_size == size for file, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def merge_reports(out: Path, parts: int) -> Report:
    """The statistics and rejects of the first ``parts`` parts, added up."""
    report = Report()
    for number in range(parts):
        record = json.loads(marker_of(out, number).read_bytes())
        report.statistics.update(record["statistics"])
        report.rejects.update(record["rejects"])
    return report


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as stream:
        stream.write(data)
        _flush(stream)
    temporary.replace(path)


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


# --------------------------------------------------------------------------------------------- before and after it


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Names an input file by path, size and modification time."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return {"path": str(path.resolve()), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def _claim(stage: Stage, out: Path, overwrite: bool) -> None:
    """Makes the output folder this stage's own, or refuses."""
    wanted = {"stage": stage.name, **stage.fingerprint()}
    path = out / "stage.json"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out names a folder")
    inputs = [Path(source).resolve() for source in _paths(wanted)]
    if any(source.is_relative_to(out.resolve()) for source in inputs):
        raise InputError(f"{out} holds an input of this run; name another --out folder")
    # A run that failed before its first part, on bad input for example, left nothing to protect.
    if path.exists() and any(out.glob("part-*.stats.json")):
        found = json.loads(path.read_bytes())
        if found.get("stage") != stage.name:
            raise InputError(f"{out} holds the output of the stage {found.get('stage')!r}; name another --out folder")
        differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        if differing and not overwrite:
            changes = "; ".join(f"{key}: {_short(found.get(key))} -> {_short(wanted.get(key))}" for key in differing)
            raise InputError(
                f"{out} holds the output of a run with other settings ({changes}). "
                "Name another --out folder, or add --overwrite to replace it"
            )
        if overwrite:
            shutil.rmtree(out)
    elif not path.exists() and out.exists() and any(child.name != path.name + TEMPORARY for child in out.iterdir()):
        raise InputError(f"{out} is not empty and was not written by this command; name another --out folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(wanted, indent=1, ensure_ascii=False).encode() + b"\n")


def _paths(fingerprint: Any) -> Iterator[str]:
    """The inputs that a fingerprint names."""
    if isinstance(fingerprint, dict):
        if isinstance(fingerprint.get("path"), str):
            yield fingerprint["path"]
        for value in fingerprint.values():
            yield from _paths(value)
    elif isinstance(fingerprint, list):
        for value in fingerprint:
            yield from _paths(value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_disk(stage: Stage, out: Path) -> None:
    needed, free = stage.estimated_bytes(), shutil.disk_usage(out).free
    if needed > free:
        raise InputError(
            f"{stage.name} will write about {needed / 1e9:,.1f} GB, but {out} has {free / 1e9:,.1f} GB free"
        )


def _write_report(stage: Stage, out: Path, report: Report, workers: int) -> None:
    rows = report.statistics["rows"]
    packages = ("ernie-vil-pytorch", "pyarrow", "numpy", "spacy", "tokenizers")
    record = {
        "stage": stage.name,
        "parts": report.parts,
        "parts_from_earlier_runs": report.skipped,
        "statistics": dict(sorted(report.statistics.items())),
        "rejects": dict(sorted(report.rejects.items())),
        "seconds": round(report.seconds, 3),
        "rows_per_second": round(rows / report.seconds, 1) if report.seconds else None,
        "workers": workers,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }
    write_atomic(out / "report.json", json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


def _check_rejects(out: Path, report: Report, max_rejects: float) -> None:
    rejected, rows = report.rejects.total(), report.statistics["rows"]
    if rows and rejected > max_rejects * rows:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in report.rejects.most_common(5))
        raise InputError(
            f"{rejected:,} of {rows:,} rows were rejected, more than --max-rejects {max_rejects:g}: {reasons}. "
            f"Each is listed in {out / 'rejects'}. The rest is written; a higher --max-rejects accepts it"
        )


def print_report(title: str, out: Path, report: Report) -> None:
    """The closing summary of a stage."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, count in sorted(report.statistics.items(), key=lambda item: (item[0] != "rows", item[0])):
        table.add_row(name, f"{count:,}")
    for reason, count in report.rejects.most_common():
        table.add_row(f"rejected: {reason}", f"{count:,}")
    table.add_row("parts", f"{report.parts:,}" + (f" ({report.skipped:,} from before)" if report.skipped else ""))
    table.add_row("seconds", f"{report.seconds:.1f}")
    table.add_row("written to", str(out))
    console.print(table)
