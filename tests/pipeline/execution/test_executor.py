import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from parsers.command import InputError
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.execution.parts import Part, Reject, path_of_marker
from shards.storage.lock import lock_folder
from tests.pipeline.outputs import contents

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class ToyStage:
    """Squares numbers: each partition is a list of them; negative ones are rejected; a poisoned one raises."""

    numbers: tuple[int, ...] = tuple(range(20))
    size: int = 3
    poison: int | None = None
    bytes: int = 0
    log: Path | None = None
    die: bool = False
    source: Path | None = None
    name: str = "toy"
    options: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> list[Path]:
        return [] if self.source is None else [self.source]

    def fingerprint(self) -> dict[str, Any]:
        return {"numbers": list(self.numbers), "size": self.size, **self.options}

    def partitions(self) -> Iterator[list[int]]:
        for start in range(0, len(self.numbers), self.size):
            yield list(self.numbers[start : start + self.size])

    def total(self) -> int | None:
        return None

    def worker(self) -> Callable[[list[int], Part], None]:
        return self.square

    def square(self, numbers: list[int], part: Part) -> None:
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{part.number}\n")
        with part.open(f"{part.name}.txt") as stream:
            for number in numbers:
                if number == self.poison:
                    if self.die:
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise RuntimeError("poisoned")
                part.statistics["rows"] += 1
                if number < 0:
                    part.rejects.append(Reject("numbers", f"value {number}", "negative"))
                else:
                    stream.write(f"{number**2}\n".encode())

    def estimated_bytes(self) -> int:
        return self.bytes

    def finish(self, out: Path, parts: int, statistics: Counter[str]) -> None:
        text = b"".join((out / f"part-{number:05d}.txt").read_bytes() for number in range(parts))
        (out / "all.txt").write_bytes(text)


@dataclass(frozen=True)
class SlowStage(ToyStage):
    """Reports the first row of a part, and finishes the part when somebody has heard of it."""

    heard: Path = Path()

    def square(self, numbers: list[int], part: Part) -> None:
        part.advance(1)
        for _ in range(6_000):
            if self.heard.exists():
                return super().square(numbers, part)
            time.sleep(0.01)
        raise RuntimeError("nobody has heard of the first row")

    def worker(self) -> Callable[[list[int], Part], None]:
        return self.square


def start(stage, out, workers=1, kind="local", **options):
    return run_stage(stage, out, Engine(kind, workers), **{"max_rejects": 0.01, "overwrite": False, **options})


# ------------------------------------------------------------------------------------------------------------ resume


def test_every_partition_becomes_a_part_and_the_report_adds_them_up(tmp_path):
    out = tmp_path / "deep" / "out"
    report = start(ToyStage(), out)
    assert (report.parts, report.skipped, report.statistics["rows"]) == (7, 0, 20)
    assert (out / "all.txt").read_text() == "".join(f"{n**2}\n" for n in range(20))
    assert not list(out.rglob("*.tmp"))
    written = json.loads((out / "report.json").read_text())
    assert (written["stage"], written["parts"], written["statistics"]) == ("toy", 7, {"rows": 20})


def test_a_second_run_skips_what_is_complete(tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    start(ToyStage(log=log), out)
    before = contents(out)
    report = start(ToyStage(log=log), out)
    assert (report.parts, report.skipped, report.statistics["rows"]) == (7, 7, 20)
    assert contents(out) == before
    assert len(log.read_text().split()) == 7


def test_only_missing_changed_or_unmarked_parts_are_made_again(tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    start(ToyStage(), out)
    before = contents(out)
    path_of_marker(out, 1).unlink()
    (out / "part-00003.txt").unlink()
    (out / "part-00004.txt").write_bytes(b"cut")
    path_of_marker(out, 6).write_text("{")
    report = start(ToyStage(log=log), out)
    assert [int(number) for number in log.read_text().split()] == [1, 3, 4, 6]
    assert report.skipped == 3
    assert contents(out) == before


def test_a_part_that_fails_leaves_no_marker_and_a_rerun_finishes(tmp_path):
    start(ToyStage(), tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="poisoned"):
        start(ToyStage(poison=10), out)
    assert [path_of_marker(out, number).exists() for number in range(7)] == [True] * 3 + [False] * 4
    assert not (out / "part-00003.txt").exists()
    assert not (out / "report.json").exists()
    report = start(ToyStage(), out)
    assert report.skipped == 3
    assert contents(out) == contents(tmp_path / "whole")


def test_the_number_of_workers_changes_no_byte(tmp_path):
    numbers = (*range(300), -1)
    start(ToyStage(numbers, 10), tmp_path / "one")
    start(ToyStage(numbers, 10), tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


class ThreadStage(ToyStage):
    """Writes with how many threads PyTorch computes."""

    def square(self, numbers: list[int], part: Part) -> None:
        with part.open(f"{part.name}.txt") as stream:
            stream.write(f"{torch.get_num_threads()}".encode())


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_are_made_with_one_thread_and_the_caller_keeps_its_own(tmp_path, monkeypatch, workers):
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    start(ThreadStage(), tmp_path / "out", workers=workers)
    assert {path.read_bytes() for path in (tmp_path / "out").glob("part-*.txt")} == {b"1"}
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (3, "3")


def test_a_worker_that_dies_is_an_input_error_and_what_was_done_is_kept(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"toy: a worker process died.*run the same command again"):
        start(ToyStage(poison=19, die=True), out, workers=2)
    assert not path_of_marker(out, 6).exists()
    start(ToyStage(), out)
    start(ToyStage(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        (ToyStage(size=4), "size"),
        (ToyStage(numbers=(1,)), "numbers"),
        (ToyStage(options={"parser": "x"}), "parser"),
    ],
)
def test_other_settings_are_refused_by_name_unless_overwritten(tmp_path, stage, key):
    out = tmp_path / "out"
    start(ToyStage(), out)
    before = contents(out)
    with pytest.raises(InputError, match=rf"\({key}: .*--overwrite"):
        start(stage, out)
    assert contents(out) == before
    start(stage, out, overwrite=True)
    start(stage, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_folder_of_others_is_refused_and_left_alone_even_with_overwrite(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not empty and was not written by this command"):
            start(ToyStage(), tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_an_empty_folder_is_taken_and_a_file_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    start(ToyStage(), tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        start(ToyStage(), tmp_path / "file")


def test_a_folder_that_another_run_writes_is_refused_and_stays_as_it_is(tmp_path):
    start(ToyStage(), tmp_path / "out")
    before = contents(tmp_path / "out")
    with lock_folder(tmp_path / "out"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match=r"process \d+ on .* writes to this folder"):
                start(ToyStage(), tmp_path / "out", overwrite=overwrite)
    assert contents(tmp_path / "out") == before


def test_a_run_killed_while_it_claimed_the_folder_can_be_rerun(tmp_path):
    (tmp_path / ".stage.json.x.tmp").write_text("{")
    start(ToyStage(), tmp_path)


@pytest.mark.parametrize("stranger", ["notes.txt", "deep/notes.txt", ".hidden", "rejects/part-00000.txt"])
def test_overwrite_removes_nothing_where_anything_else_lies(tmp_path, stranger):
    out = tmp_path / "out"
    start(ToyStage(), out)
    (out / stranger).parent.mkdir(exist_ok=True)
    (out / stranger).write_text("mine")
    start(ToyStage(), out)  # a run that finds everything complete does not take it for its own
    before = contents(out)
    with pytest.raises(InputError, match=rf"holds {stranger}, which no record of the stage lists"):
        start(ToyStage(size=5), out, overwrite=True)
    assert contents(out) == before
    (out / stranger).unlink()
    start(ToyStage(size=5), out, overwrite=True)
    start(ToyStage(size=5), tmp_path / "new")
    assert contents(out) == contents(tmp_path / "new")


def test_overwrite_removes_nothing_through_a_link(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    start(ToyStage(), tmp_path / "out")
    (tmp_path / "out" / "rejects").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="holds rejects, which no record"):
        start(ToyStage(size=5), tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "rejects").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="is a link"):
        start(ToyStage(size=5), tmp_path / "link", overwrite=True)
    assert contents(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_overwrite_removes_what_a_failed_run_left(tmp_path):
    with pytest.raises(RuntimeError, match="poisoned"):
        start(ToyStage(poison=10), tmp_path / "out")
    start(ToyStage(size=5), tmp_path / "out", overwrite=True)
    start(ToyStage(size=5), tmp_path / "new")
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


def test_another_stages_folder_is_never_replaced(tmp_path):
    start(ToyStage(), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="the stage 'toy'"):
        start(ToyStage(name="other"), tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("inside", [".", "a", "deep/a"])
def test_a_folder_that_holds_an_input_is_refused_even_with_overwrite(tmp_path, inside):
    out = tmp_path / "out"
    (tmp_path / "elsewhere").touch()
    start(ToyStage(source=tmp_path / "elsewhere"), out)
    (out / inside).parent.mkdir(exist_ok=True)
    (out / inside).exists() or (out / inside).touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds an input of this run; name another --out folder"):
            start(ToyStage(source=out / inside), out, overwrite=overwrite)
    assert (out / "all.txt").exists()


def test_too_little_disk_is_refused_before_anything_runs(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(InputError, match=r"needs .* bytes, but"):
        start(ToyStage(bytes=1 << 60, log=log), tmp_path / "out")
    assert not log.exists()


# ----------------------------------------------------------------------------------------------------------- rejects


def test_rejects_are_listed_counted_and_too_many_of_them_fail_the_stage(tmp_path):
    out, numbers = tmp_path / "out", (*range(18), -1, -2)
    with pytest.raises(InputError, match=r"2 of 20 rows were rejected, more than --max-rejects 0\.05: negative \(2\)"):
        start(ToyStage(numbers), out, max_rejects=0.05)
    assert (out / "all.txt").read_text() == "".join(f"{n**2}\n" for n in range(18))
    rows = [json.loads(line) for line in (out / "rejects" / "part-00006.jsonl").read_text().splitlines()]
    assert rows == [{"source": "numbers", "position": f"value {n}", "reason": "negative"} for n in (-1, -2)]
    assert [path.name for path in (out / "rejects").iterdir()] == ["part-00006.jsonl"]
    with pytest.raises(InputError, match="2 of 20"):
        start(ToyStage(numbers), out, max_rejects=0.05)
    report = start(ToyStage(numbers), out, max_rejects=0.1)
    assert (report.skipped, report.rejects) == (7, {"negative": 2})
    assert json.loads((out / "report.json").read_text())["rejects"] == {"negative": 2}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("moment", [0, 5])
def test_an_input_that_changes_while_it_is_read_fails_the_stage(tmp_path, kind, moment):
    """Part 0 is the first of seven, part 5 is not the last."""

    class Changing(ToyStage):
        def square(self, numbers, part):
            super().square(numbers, part)
            if part.number == moment:
                (source / "b" if kind == "folder" else source).write_text("changed")

    source = tmp_path / "source"
    if kind == "folder":
        source.mkdir()
        (source / "a").write_text("a")
    else:
        source.write_text("a")
    out = tmp_path / "out"
    found = r"source: changed \(its newest file is b\)" if kind == "folder" else "source: changed while"
    with pytest.raises(InputError, match=found):
        run_stage(Changing(source=source), out, Engine(), max_rejects=0, overwrite=False)
    assert not (out / "report.json").exists()
    complete = sum(path_of_marker(out, number).exists() for number in range(7))
    assert complete == (7 if kind == "folder" else moment + 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_reported_while_their_part_is_made(tmp_path, workers):
    reports = []

    def advance(parts, rows=0):
        reports.append((parts, rows))
        if rows:
            (tmp_path / "heard").touch()

    stage = SlowStage(heard=tmp_path / "heard")
    Engine("local", workers).run(stage, tmp_path / "out", enumerate(stage.partitions()), advance)
    assert [sum(counts) for counts in zip(*reports, strict=True)] == [7, 20]
    first = next(report for report in reports if report[1])
    assert first[0] == 0, "before a part was complete"
