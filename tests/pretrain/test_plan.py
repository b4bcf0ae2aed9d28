"""What a run will take: length, balance, memory, hours, and the command that prints them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretrain.conftest import write_shards

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "configs/model/toy.json"


@pytest.fixture
def command(tmp_path, shard_folder):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {TOY}\nsteps: 20\nbatch_size: 10\nmax_text: 16\n")

    def command(*options):
        start = [sys.executable, "-m", "pretrain.plan", "--config", str(recipe), "--shards", str(shard_folder)]
        return subprocess.run([*start, *options], cwd=ROOT, capture_output=True, text=True)

    return command


def test_the_command(command, tmp_path):
    report = tmp_path / "plan.json"
    done = command(
        "--devices", "2", "--devices", "16", "--throughput", "5", "--device-memory", "0.01", "--batches", "3",
        "--out", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20 steps, 4 an epoch: 5.00 epochs" in done.stdout
    found = json.loads(report.read_text())
    assert found["length"]["samples"] == 185
    assert found["batches"]["simulated"] == 3
    two, sixteen = found["ranks"]
    assert (two["ranks"], two["samples"], two["hours"]) == (2, [5, 5], 185 / 10 / 3600)
    assert sixteen["samples"] == [0, 1]
    for stage in two["memory"]:
        later = max(stage["activations"], stage["gradients"] + stage["update"])
        assert stage["total"] == stage["weights"] + stage["optimizer"] + stage["exchange"] + later
        assert stage["fits"] == (stage["total"] <= 1e7)


def test_the_command_takes_several_sets_and_a_token_budget(command, tmp_path):
    more, report = write_shards(tmp_path / "more" / "train", [30], seed=5), tmp_path / "plan.json"
    sets = ("--shards", str(more), "--set", "passes=[1,2]")
    assert command(*sets, "--out", str(report)).returncode == 0
    found = json.loads(report.read_text())
    assert found["length"]["samples"] == 194  # of 97 pairs, the second set twice: 10 batches, the last one of 7
    assert found["length"]["steps_per_epoch"] == 10

    done = command(*sets, "--set", "batch_size=null", "--set", "tokens=500", "--out", str(report))
    assert done.returncode == 0, done.stderr
    tokens = json.loads(report.read_text())["batches"]["tokens"]
    assert 400 < tokens["mean"] < 500
    assert tokens["longest"] < 560
    assert "tokens of a batch" in done.stdout

    done = command("--shards", str(more))
    assert done.returncode == 0, done.stderr
    done = command("--shards", str(more), "--set", "passes=[1]")
    assert done.returncode == 1
    assert "one number for each set of shards, of which there are 2" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--set", "tokens=500"), 1, "give one of batch_size"),
        (("--throughput", "5", "--peak-tflops", "9", "--share", "0.3"), 2, "give one of --throughput"),
        (("--peak-tflops", "9"), 2, "belong together"),
        (("--throughput", "0"), 2, "Invalid value for --throughput: 0.0 is not more than 0"),
        (("--peak-tflops", "9", "--share", "30"), 2, "Invalid value for --share: 30.0 is more than 1"),
        (("--set", "max_text=9999"), 1, "max_text 9999 is more than"),
        (("--out", "/missing/plan.json", "--batches", "1"), 1, "cannot be written"),
    ],
)
def test_wrong_options_are_named(command, options, code, message):
    done = command(*options)
    assert done.returncode == code
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", done.stderr).split())
