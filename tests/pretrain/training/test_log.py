"""What a run logs."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.training.distributed import DistributedContext
from pretrain.training.log import Log, StepRecord
from pretrain.training.workload import Scores


def test_weights_and_biases(runs):
    wandb_missing = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True).returncode != 0
    os.environ["WANDB_MODE"] = "offline"
    launch = runs.start("wandb", "wandb_project=scenes", "steps=3")
    del os.environ["WANDB_MODE"]
    if wandb_missing:
        launch.fail("pip install 'ernie-vil-pytorch[wandb]'")
    else:
        launch.succeed()
        assert list((runs.folder / "wandb/wandb").glob("offline-run-*/*.wandb"))


def record(loss, count=(2.0, 0.0), **changes):
    scores = Scores(torch.tensor(loss), torch.tensor([1.0, torch.nan]), torch.tensor(count))
    values = {
        "samples": 4, "tokens": 30, "flops": 5e8, "gradient_norm": 1.5, "learning_rate": 0.1, "norms": {},
        "recompilations": None,
    }  # fmt: skip
    return StepRecord(scores, **(values | changes))


@pytest.fixture
def log(tmp_path):
    def log(step=0, rank=0):
        world = DistributedContext(rank, 1, torch.device("cpu"))
        return Log(
            tmp_path,
            (("word", "region"), (1.0, 0.5)),
            step=step,
            steps=9,
            peak_flops=1e9,
            wandb_project=None,
            world=world,
        )

    return log


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_has_the_means_over_the_targets_of_its_steps(log, tmp_path):
    with log() as found:
        found.add(record([3.0, 0.0]))
        found.add(record([6.0, 4.0], count=(4.0, 2.0), norms={"gradient/a": 2.0}, recompilations=0))
        found.write(2, waited=0.0, blocked=0.0)
    (line,) = lines(tmp_path)
    assert (line["step"], line["loss/word"], line["loss/region"]) == (2, 1.5, 2.0)
    assert line["loss"] == 1.5 + 0.5 * 2.0
    assert line["accuracy/word"] == pytest.approx(1 / 3)
    assert "accuracy/region" not in line, "a regression has no accuracy"
    assert (line["gradient/a"], line["recompilations"], line["gradient_norm"]) == (2.0, 0, 1.5)
    assert {"samples_per_second", "tokens_per_second", "data_wait_share", "share_of_peak", "memory_gb"} <= line.keys()


def test_an_objective_without_targets_has_no_loss(log, tmp_path):
    with log() as found:
        found.add(record([3.0, 0.0]))
        found.write(1, 0.0, 0.0)
    assert "loss/region" not in lines(tmp_path)[0]


def test_lines_after_the_checkpoint_are_dropped_when_a_run_is_resumed(log, tmp_path):
    text = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3, 4))
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 5, "lo')  # where a run was killed
    with log(step=2) as found:
        found.write_metrics(3, {"loss": 2.0})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 2.0}]


def points(folder):
    """The points that TensorBoard shows, by the name of the curve."""
    found = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=True).Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_shows_each_step_once_and_none_is_lost(log, tmp_path):
    with log() as found:  # ends before its first checkpoint
        found.write_metrics(1, {"loss": 5.0})
        found.write_metrics(2, {"loss": 4.0})
    with log() as found:  # ends after the checkpoint of step 2, with its evaluation
        for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0)):
            found.write_metrics(step, {"loss": loss})
        found.write_metrics(2, {"dev": 7.0})
    with log(step=2) as found:
        found.write_metrics(3, {"loss": 0.5})
    assert points(tmp_path) == {"loss": [(1, 3.0), (2, 2.0), (3, 0.5)], "dev": [(2, 7.0)]}


def test_only_the_first_rank_writes(log, tmp_path):
    with log(rank=1) as found:
        found.add(record([3.0, 0.0]))
        found.write(1, 0.0, 0.0)
        found.write_metrics(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
