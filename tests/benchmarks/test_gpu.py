"""The check of a machine with a GPU, on one without: all of it, small."""

import itertools
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from benchmarks.gpu.__main__ import LEAST_SECONDS, do
from benchmarks.gpu.report import Report
from benchmarks.gpu.steps import STEPS, Setting, Step
from tests.pretrain.launch import ROOT

NOT_ON_A_CPU = {"NCCL", "out of memory"}


def step(function, seconds=100.0, **arguments):
    return Step(function, f"tests.benchmarks.doubles:{function}", seconds, arguments)


@pytest.fixture
def play(tmp_path):
    """Does steps and reads the report."""

    def play(*steps, seconds=1000.0):
        report = Report(tmp_path, [step.name for step in steps], {"card": "none"})
        do(steps, Setting("cpu", True, tmp_path, tmp_path / "log.txt"), report, seconds=seconds)
        return {outcome["step"]: outcome for outcome in json.loads((tmp_path / "results.json").read_text())["steps"]}

    return play


def test_a_step_passes_fails_or_is_skipped_with_its_reason(play, tmp_path):
    names = ("misses_its_aim", "misses_its_bound", "refuses", "breaks", "skips", "needs", "dies")
    found = play(step("finds", number=3), *map(step, names))
    assert {name: (outcome["status"], outcome["reason"]) for name, outcome in found.items()} == {
        "finds": ("pass", ""),
        "misses_its_aim": ("pass", ""),
        "misses_its_bound": ("fail", "error: nan, at most 0.0001 is right"),
        "refuses": ("fail", "this device is none"),
        "breaks": ("fail", "KeyError: 'loss'"),
        "skips": ("skipped", "not on a CPU"),
        "needs": ("skipped", "the package no_such_package is missing"),
        "dies": ("fail", "its process has ended with exit code 7"),
    }
    assert found["finds"]["figures"] == {"number": 3, "error": 1e-6, "share": 0.5}
    assert found["misses_its_aim"]["notes"] == ["aim missed: share 0.25, aim at least 0.45"]
    assert found["misses_its_bound"]["figures"]["seen later"] == 1
    assert found["refuses"]["figures"] == {"seen before": 1}
    table = (tmp_path / "results.md").read_text()
    assert "2 pass, 4 fail, 2 skipped" in table
    assert all(f"| {name} | {outcome['status']} |" in table for name, outcome in found.items())
    assert "===== breaks" in (tmp_path / "log.txt").read_text()


def test_a_step_that_hangs_is_stopped_with_all_it_has_started(play, tmp_path):
    found = play(step("hangs", seconds=10.0), step("finds", number=1))
    assert found["hangs"]["status"] == "fail"
    assert found["hangs"]["reason"] == "stopped after 10 s, its limit"
    assert found["finds"]["status"] == "pass"
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_steps_without_time_are_skipped(play):
    found = play(step("hangs"), step("finds", number=1), seconds=LEAST_SECONDS + 1)
    assert found["hangs"]["reason"] == "no time left to finish it"
    assert found["finds"]["reason"] == "no time left"
    assert {outcome["status"] for outcome in found.values()} == {"skipped"}


def start(out, *options, **environment):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", out, "--device", "cpu", "--tiny", *options]
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=os.environ | environment | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def results(out):
    return json.loads((out / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_everything_runs_without_a_gpu(tmp_path, whole):
    """A compiler takes a minute, so what is compiled is left out but for the slow one."""
    steps = [step.name for step in STEPS if whole or "compiled" not in step.name]
    chosen = itertools.chain(*(("--only", step) for step in steps))
    process = start(tmp_path / "out", "--minutes", 20, *chosen, TMPDIR=str(tmp_path))
    printed = process.communicate()[0]
    found = results(tmp_path / "out")
    assert process.returncode == 0, printed
    assert found["finished"]
    assert [outcome["step"] for outcome in found["steps"]] == steps
    skipped = {outcome["step"] for outcome in found["steps"] if outcome["status"] == "skipped"}
    assert skipped == NOT_ON_A_CPU, printed
    assert {"date", "commit", "card, memory, driver", "python", "torch"} <= found["facts"].keys()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log.txt", "results.json", "results.md"]
    assert not list(tmp_path.glob("gpu-check-*"))


def test_a_missing_package_skips_the_steps_that_need_it(tmp_path):
    (tmp_path / "deepspeed.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'deepspeed'\", name='deepspeed')"
    )
    process = start(tmp_path / "out", "--only", "train fp32, ZeRO 0", "--only", "attention", PYTHONPATH=str(tmp_path))
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    reasons = {
        outcome["step"]: (outcome["status"], outcome["reason"]) for outcome in results(tmp_path / "out")["steps"]
    }
    assert reasons == {
        "train fp32, ZeRO 0": ("skipped", "the package deepspeed is missing"),
        "attention": ("pass", ""),
    }


def test_a_run_that_is_cut_off_tells_what_it_saw(tmp_path):
    process = start(tmp_path, "--only", "attention", "--only", "resume after SIGKILL")
    printed = list(itertools.takewhile(lambda line: "  attention" not in line, process.stdout))
    assert process.poll() is None, "".join(printed)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = results(tmp_path)
    assert [outcome["step"] for outcome in found["steps"]] == ["attention"]
    assert not found["finished"]
    assert found["to come"] == ["resume after SIGKILL"]
    assert "not finished: 1 to come" in (tmp_path / "results.md").read_text()
    _, left = psutil.wait_procs(started, timeout=100)
    assert not left


def test_what_is_imported_beforehand_asks_cuda_for_nothing():
    """A process that is forked from one that has cannot use CUDA."""
    code = """
import sys, torch
asked = []
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    setattr(torch._C, name, lambda name=name: asked.append(name) or 0)
for name in ("device_count", "is_available"):
    setattr(torch.cuda, name, lambda name=name: asked.append(name) or 0)
import benchmarks.gpu.preload
assert {"deepspeed", "torchvision", "pretrain.run"} <= sys.modules.keys()
assert not asked, asked
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cuda"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
