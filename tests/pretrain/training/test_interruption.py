"""Signals end a run with a checkpoint."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from pretrain.training.interruption import ECHO_SECONDS, SIGNALS, Interruption
from tests.pretrain.launch import ROOT, Launch, deepspeed, environment
from tests.pretrain.runs import SIGNALLED, STEPS, assert_undisturbed


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        pytest.param(2, 1, ["zero_stage=1"], marks=pytest.mark.slow),
        (1, 2, ["zero_stage=1"]),
        pytest.param(2, 1, [], marks=pytest.mark.slow),
        pytest.param(2, 1, ["zero_stage=2"], marks=pytest.mark.slow),
        pytest.param(1, 2, ["zero_stage=3"], marks=pytest.mark.slow),
        pytest.param(2, 1, ["zero_stage=3"], marks=pytest.mark.slow),
        pytest.param(1, 2, ["zero_stage=2", "precision=bf16"], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_resumes_on_another_number_of_ranks(runs, before, after, settings):
    settings = ["model=no-dropout.json", *settings]
    name = "-".join(map(str, (before, after, *settings))).replace("=", "")
    runs.start(f"one-{name}", *settings).succeed()
    launch = runs.signal(name, "SIGTERM", 5, *settings, ranks=before, to=[before - 1])  # the others must hear of it
    launch.fail(*(["SIGTERM: ends after this step"] if before == 1 else []), code=143)
    stopped = len(runs.metrics(name))
    assert stopped == 6, "all ranks end after the step in which one of them got the signal"
    assert (runs.folder / name / "checkpoints/latest").read_text() == f"step-{stopped}"
    runs.start(name, *settings, "--resume", ranks=after).succeed()
    one, other = runs.metrics(f"one-{name}"), runs.metrics(name)
    assert len(one) == len(other) == STEPS
    for mine, theirs in zip(one, other, strict=True):
        assert {key: value for key, value in mine.items() if "loss" in key} == pytest.approx(
            {key: value for key, value in theirs.items() if "loss" in key}, abs=1e-3
        )
    assert not list((runs.folder / name / "checkpoints").glob(".*"))


def test_an_interrupt_leaves_a_checkpoint(runs):
    runs.signal("interrupted", "SIGINT", 3).fail("SIGINT: ends after this step", code=130)
    runs.start("interrupted", "--resume").succeed()
    assert_undisturbed(runs, "interrupted")


SECOND = """
import signal, types
from pretrain.training import interruption

now = 0.0
interruption.time = types.SimpleNamespace(monotonic=lambda: now)
with interruption.Interruption(0):
    for number, now in ((signal.SIGTERM, 0.0), (signal.SIGTERM, {echo}), (signal.SIGINT, {echo} + 0.1)):
        signal.raise_signal(number)
        print(now, flush=True)
"""
"""A first signal, its echo, and a second one, by a clock of the test's own."""


def test_a_second_signal_quits_at_once():
    code = SECOND.format(echo=ECHO_SECONDS)
    done = subprocess.run([sys.executable, "-c", code], env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stdout.split() == ["0.0", str(ECHO_SECONDS)]
    assert done.stderr.count("SIGTERM: ends after this step") == 1


class Ranks:
    """Two ranks, of which the other one has these signals and this problem."""

    device = torch.device("cpu")

    def __init__(self, *others, problem=None):
        self.others, self.problem = others, problem

    def all_reduce(self, tensor):
        signals = [float(number in self.others) for number in SIGNALS]
        return tensor + torch.tensor([*signals, float(self.problem is not None)])

    def gather(self, item):
        return [item, self.problem]


def test_the_ranks_agree_on_a_signal_that_any_of_them_has():
    with Interruption(1) as interruption:
        assert interruption.agree(Ranks(), None) is None
        assert interruption.agree(Ranks(signal.SIGTERM), None).code == 143
        signal.raise_signal(signal.SIGINT)
        assert interruption.agree(Ranks(), None).code == 130
        assert interruption.agree(Ranks(signal.SIGTERM), None).code == 130, "all ranks decide alike"


def test_the_ranks_end_with_the_problem_that_any_of_them_has():
    with Interruption(1) as interruption:
        assert str(interruption.agree(Ranks(signal.SIGTERM), "a worker is gone")) == "a worker is gone"
        assert str(interruption.agree(Ranks(problem="a disk is gone"), None)) == "a disk is gone"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_ends_the_waiting_for_data(number, code):
    reader, writer = os.pipe()

    def receive():
        signal.raise_signal(number)
        return os.read(reader, 1)  # nobody ever writes

    with Interruption(1) as interruption:
        assert interruption.wait_for(lambda: "data") == "data"
        assert interruption.wait_for(receive) is None
        assert interruption.wait_for(lambda: os.read(reader, 1)) is None, "nor does it begin to wait"
        assert interruption.agree(Ranks(), None).code == code
    os.close(reader)
    os.close(writer)


def test_a_hangup_that_nohup_has_turned_off_stays_off():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption(1) as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.agree(Ranks(), None) is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_mean_afterwards_what_they_meant_before():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption(0):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_the_launcher_ends_with_a_checkpoint(runs):
    """It passes the signal on to processes that have it already, kills them in the end, and exits with 1."""
    script = runs.folder / "launched.py"
    script.write_text(SIGNALLED.format(signal="SIGTERM", step=5, ranks=(0,)))
    command = [*deepspeed(), script, "--config", "recipe.yaml", "--shards", runs.shards, "--out", "launched"]
    launch = Launch(command, runs.folder, 1)
    launch.wait()  # until no process has its output open any more
    assert launch.processes[0].returncode != 0
    assert int((runs.folder / "launched/checkpoints/latest").read_text().removeprefix("step-")) >= 6
    runs.start("launched", "--resume", ranks=2).succeed()
    assert_undisturbed(runs, "launched", 2)
