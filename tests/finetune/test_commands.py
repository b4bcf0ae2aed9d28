"""Fine-tuning, predicting and scoring as users start them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from finetune import evaluate, predict
from finetune.run import app as fine_tune
from tests.finetune.worlds import FEATURES, grid, regions_folder, write_model, write_refer, write_vcr, write_vqa
from tests.pretrain.launch import deepspeed

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "hidden_size": 32, "num_attention_heads": 2, "v_hidden_size": 32, "v_num_attention_heads": 2,
    "v_intermediate_size": 32, "co_hidden_size": 32, "co_num_attention_heads": 2,
}  # fmt: skip
OPTIMIZER = {"learning_rate": 3e-3, "warmup_steps": 5, "schedule": "linear", "betas": [0.9, 0.95]}
RECIPES = {
    "vqa": {"batch_size": 12, "steps": 120, "task": {"max_text": 12, "least_count": 1, "hidden_size": 256}},
    "vcr": {"batch_size": 16, "steps": 60, "task": {"max_text": 20, "max_rationale_text": 24}},
    "refcoco_plus": {"batch_size": 4, "steps": 60, "task": {"max_text": 12}},
}
# All in one process: each start of one costs many seconds.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from finetune.data import TaskFiles
from finetune.training.recipe import FineTuneRecipe
from finetune.tasks import import_task
from finetune.training.finetuning import FineTuning, fine_tune
from pretrain.training.distributed import with_process_group

folder = Path(sys.argv[1])

def train(name, out, *settings, resume=False):
    task = import_task(name)
    recipe = FineTuneRecipe.for_task(task.settings_type).load(folder / f"{name}.yaml", list(settings))
    data = TaskFiles(folder / name, [folder / "regions"])
    fine_tune(task(recipe.task), recipe, folder / "model", data, folder / out, resume=resume)

def stopped_and_resumed(name, out, *settings):
    prepare_step = FineTuning.prepare_step
    def stop(self, optimizer, step, steps):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return prepare_step(self, optimizer, step, steps)
    FineTuning.prepare_step = stop
    try:
        train(name, out, *settings)
    except SystemExit as end:
        print("stopped with", end.code)
    FineTuning.prepare_step = prepare_step
    train(name, out, *settings, resume=True)

def work():
    for name in ("vqa", "vcr", "refcoco_plus"):
        train(name, f"runs/{name}")
    dropout = ["steps=12", "hidden_dropout=0.1", "evaluate_every=0"]
    train("refcoco_plus", "runs/whole", *dropout)
    stopped_and_resumed("refcoco_plus", "runs/stopped", *dropout)
    train("refcoco_plus", "runs/large-batch", "steps=1", "batch_size=1000", "evaluate_every=0")
    train("vcr", "runs/bf16", "steps=4", "precision=bf16", "zero_stage=1", "accumulation=2")

with_process_group(work)
"""


def environment():
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, regions, and the data and recipe of every task; then all are fine-tuned."""
    folder = tmp_path_factory.mktemp("tasks")
    write_model(folder / "model", **SIZES)
    images = [*map(str, range(6)), *(f"train-{i}" for i in range(3))]
    regions_folder(folder / "regions", {image_id: grid(4) for image_id in images})
    write_vqa(folder / "vqa")
    write_vcr(folder / "vcr")
    write_refer(folder / "refcoco_plus")
    for name, recipe in RECIPES.items():
        values = {"train": ["train"], "dev": "train", "workers": 0, "optimizer": OPTIMIZER, "evaluate_every": 30}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values | recipe))
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "stopped with 143" in done.stdout
    (folder / "printed.txt").write_text(done.stdout + done.stderr)
    return folder


def run(module, *arguments):
    return CliRunner().invoke(module.app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize(("name", "out", "score"), [
    ("vqa", "result.json", "accuracy"),
    ("vcr", "leaderboard.csv", "Q->AR"),
    ("refcoco_plus", "boxes.json", "accuracy"),
])  # fmt: skip
def test_what_was_learned_is_predicted_and_scored_alike(folder, name, out, score):
    lines = [json.loads(line) for line in (folder / f"runs/{name}/metrics.jsonl").read_text().splitlines()]
    scored = [line[f"dev/{score}"] for line in lines if f"dev/{score}" in line]
    assert len(scored) == RECIPES[name]["steps"] // 30
    arguments = ["--data", folder / name, "--split", "train"]
    predicted = run(
        predict, name, "--model", folder / f"runs/{name}", *arguments, "--regions", folder / "regions",
        "--out", folder / out, "--batch-size", "5",
    )  # fmt: skip
    assert predicted.exit_code == 0, predicted.output
    shown = run(evaluate, name, "--predictions", folder / out, *arguments, "--out", folder / "scores.json")
    assert shown.exit_code == 0, shown.output
    scores = json.loads((folder / "scores.json").read_text())
    assert scores[score] == pytest.approx(max(scored), abs=1e-6), "the best model is the one that predicts"
    assert scores[score] >= 0.9


def test_a_stopped_run_ends_in_the_same_weights(folder):
    whole, resumed = (load_file(folder / f"runs/{name}/model/model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)


def test_a_batch_larger_than_the_set_is_said(folder):
    (line,) = (line for line in (folder / "printed.txt").read_text().splitlines() if "batch_size" in line)
    assert re.fullmatch(r"batch_size 1,000 is more than the \d+ examples: a batch holds all of them, once", line)


def test_two_ranks_learn_the_same_and_score_the_same(folder):
    settings = ["--set", "steps=8", "--set", "zero_stage=1", "--set", "evaluate_every=8"]
    lines = []
    for out, launcher in (("one", [sys.executable]), ("two", deepspeed())):
        command = [*launcher, str(ROOT / "finetune/run.py"), "refcoco_plus", "--config", folder / "refcoco_plus.yaml"]
        command += ["--start", folder / "model", "--data", folder / "refcoco_plus", "--regions", folder / "regions"]
        command += ["--out", folder / "runs" / out, *settings]
        done = subprocess.run(
            [str(part) for part in command], env=environment(), capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        found = [json.loads(line) for line in (folder / f"runs/{out}/metrics.jsonl").read_text().splitlines()]
        lines.append({k: v for line in found for k, v in line.items() if k.startswith(("loss/", "dev/"))})
    assert lines[0] == pytest.approx(lines[1], rel=2e-3)


def test_a_run_is_not_resumed_on_other_regions(folder, tmp_path):
    other = regions_folder(tmp_path / "other", {str(image): grid(5) for image in range(6)})
    arguments = [
        "refcoco_plus", "--config", folder / "refcoco_plus.yaml", "--start", folder / "model", "--data",
        folder / "refcoco_plus", "--regions", other, "--out", folder / "runs/refcoco_plus", "--resume",
    ]  # fmt: skip
    failed = CliRunner().invoke(fine_tune, [str(argument) for argument in arguments])
    assert "belongs to another run (regions: " in str(failed.exception)


@pytest.mark.parametrize("name", ["vqa", "vcr", "refcoco_plus"])
def test_what_does_not_fit_is_refused_with_advice(folder, tmp_path, name):
    other = regions_folder(tmp_path / "other", {image: grid(2) for image in ("0", "train-0")})
    larger = regions_folder(tmp_path / "larger", {"0": grid(2)}, features=FEATURES + 1)
    arguments = [
        name, "--model", folder / f"runs/{name}", "--data", folder / name, "--split", "train",
        "--out", tmp_path / "out.csv",
    ]  # fmt: skip
    for more, message in (
        ([], "give --regions"),
        (["--regions", other], "no regions for "),
        (["--regions", larger], f"features of size {FEATURES + 1}"),
        (["--regions", other, "--regions", other], "has regions twice"),
        (["--regions", tmp_path], "no stage wrote it"),
        (["--regions", folder / "regions", "--split", "nowhere"], "nowhere"),
    ):
        failed = CliRunner().invoke(predict.app, [str(argument) for argument in (*arguments, *more)])
        assert message in str(failed.exception), more
        assert not (tmp_path / "out.csv").exists()
    plain = [folder / "model" if argument == folder / f"runs/{name}" else argument for argument in arguments]
    failed = CliRunner().invoke(predict.app, [str(argument) for argument in (*plain, "--regions", other)])
    assert "is not fine-tuned yet" in str(failed.exception)
    if name != "vcr":
        assert run(predict, *arguments, "--model", folder / "model").exit_code == 2
    blank = run(predict, *arguments, "--regions", other, "--allow-missing-images")
    assert blank.exit_code == 0
    assert "blank images are shown instead" in " ".join(blank.output.split())
    assert run(predict, "nli", *arguments[1:]).exit_code == 2
    wrong = {"vqa": "vcr", "vcr": "vqa", "refcoco_plus": "vqa"}[name]
    failed = CliRunner().invoke(predict.app, [wrong, *map(str, arguments[1:]), "--regions", str(folder / "regions")])
    assert f"was fine-tuned on {name}, not on {wrong}" in str(failed.exception)
