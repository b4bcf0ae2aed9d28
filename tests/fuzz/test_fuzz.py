"""A share of ``make fuzz``: that what is damaged is read or refused, and that the fuzzer itself is sound."""

import os
import subprocess
import sys

import pytest

from tests.fuzz.mutations import copy
from tests.fuzz.run import ROOT, Fuzzer
from tests.fuzz.targets import IN_PROCESS, READERS, WHOLE

pytestmark = pytest.mark.slow


def fuzz(*arguments):
    """Runs the fuzzer as ``make fuzz`` does: it forks, which a process of pytest had better not."""
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, "-m", "tests.fuzz.seeds", str(folder)], env=environment, check=True)
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_line_names_its_inputs_and_every_reader_is_called(seeds):
    without = ("pipeline.toyworld", "pipeline.toyworld.train_detector", "pretrain.model")
    assert all(target.inputs(seeds) for target in (*IN_PROCESS, *WHOLE) if target.kind not in without)
    assert {target.kind for target in IN_PROCESS} >= READERS.keys()


def test_every_command_is_fuzzed():
    from benchmarks.startup import commands

    # One passes on to the others, one never ends, and one takes minutes of what the others do.
    without = {"matcher.command", "matcher.serve", "finetune.compose.study"}
    assert {target.line.split()[0] for target in WHOLE} >= set(commands()) - without


def test_a_case_is_always_the_same(seeds, tmp_path):
    fuzzers = [Fuzzer(seeds, 3), Fuzzer(seeds, 3), Fuzzer(seeds, 4)]
    made = []
    for number, fuzzer in enumerate(fuzzers):
        cases = [fuzzer.prepare(case, IN_PROCESS, tmp_path / f"{number}-{case}") for case in range(100)]
        made.append([cases, *(contents(tmp_path / f"{number}-{case}") for case in range(100))])
    assert made[0] == made[1] != made[2]


def test_the_seeds_are_not_changed_by_damage_to_copies(seeds, tmp_path):
    before = contents(seeds)
    copy(seeds, tmp_path / "copy", ["shards", "captions"])
    for path in (tmp_path / "copy").rglob("*.json"):
        path.write_text("damaged")
    assert contents(seeds) == before


def test_what_is_not_damaged_is_read():
    done = fuzz("--clean", "--cases", str(len(IN_PROCESS)), "--commands", "0")
    assert done.returncode == 0, done.stdout
    (counts,) = (line.split()[2:6] for line in done.stdout.splitlines() if line.startswith("in all"))
    assert counts == [str(len(IN_PROCESS)), str(len(IN_PROCESS)), "0", "0"]  # read, and not refused


def test_what_is_damaged_is_read_or_refused(tmp_path):
    done = fuzz("--cases", "1500", "--commands", "12", "--minutes", "5", "--keep", str(tmp_path / "failures"))
    assert done.returncode == 0, done.stdout[-20_000:]
