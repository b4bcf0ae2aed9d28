"""The tasks of a toy world, each trained for two steps and tested, beside guessing."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from finetune import comparison
from finetune.comparison import COMPARED, RECIPES, Comparison, app, write_untrained
from finetune.tasks.retrieval.ranking import rank, recalls
from pretrain.model.config import ModelConfig
from pretrain.model.folder import export
from pretrain.model.heads import ErnieViLForPreTraining
from tests.finetune.toys import make_toys


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return make_toys(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def start(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    export(ErnieViLForPreTraining(toys.config()).state_dict(), toys.config(), toys.vocabulary, folder)
    return folder


@pytest.mark.slow
def test_all_tasks_in_one_process_and_none_of_them_twice(toys, start, tmp_path, monkeypatch):
    for name in COMPARED:
        (tmp_path / "recipes" / name).mkdir(parents=True)
        recipe = (RECIPES / name / "toy.yaml").read_text()
        short = [
            line for line in recipe.splitlines() if not line.startswith(("steps", "checkpoint_every", "log_every"))
        ]
        short += ["steps: 2", "checkpoint_every: 2", "log_every: 1", "peak_tflops: 1"]
        (tmp_path / "recipes" / name / "toy.yaml").write_text("\n".join(short))
    monkeypatch.setattr(comparison, "RECIPES", tmp_path / "recipes")
    folders = ["--world", str(toys.world), "--regions", str(toys.regions), "--gold-regions", str(toys.gold_regions)]
    command = [*folders, "--start", f"pretrained={start}", "--untrained", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/tasks.json").read_text())
    assert found.keys() == COMPARED.keys()
    for name, by_start in found.items():
        assert by_start.keys() == {"chance", "pretrained", "no pretraining"}
        for split in COMPARED[name].test:
            for score in COMPARED[name].scores:
                for values in by_start.values():
                    (value,) = values[f"{split}/{score}"]
                    assert 0 <= value <= 1
    table = (tmp_path / "out/tasks.md").read_text().splitlines()
    assert table[0] == "| task | score | chance | pretrained | no pretraining |"
    assert len(table) == 2 + sum(len(c.test) * len(c.scores) for c in COMPARED.values())

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("scores.json")}
    assert len(times) == 2 * len(COMPARED)
    # In another process: DeepSpeed does not let go of the groups of the first run.
    script = (
        "from pathlib import Path; from finetune import comparison; from parsers.command import run; "
        f"comparison.RECIPES = Path({str(tmp_path / 'recipes')!r}); run(comparison.app)"
    )
    more = ["--task", "vqa", "--seeds", "2", "--learning-rate", "1e-3"]
    again = subprocess.run([sys.executable, "-c", script, *command, *more], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    found = json.loads((tmp_path / "out/tasks.json").read_text())
    assert len(found["vqa"]["pretrained"]["test/accuracy"]) == 2
    assert found["vqa"]["pretrained"]["learning_rate"] == 1e-3
    assert "±" in (tmp_path / "out/tasks.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_model_without_pretraining_has_the_same_size(start, tmp_path):
    first, second = (write_untrained(start, tmp_path / str(seed), seed) for seed in (0, 1))
    assert ModelConfig.load(first / "config.json") == ModelConfig.load(start / "config.json")
    assert (first / "vocab.txt").read_bytes() == (start / "vocab.txt").read_bytes()
    assert (first / "model.safetensors").read_bytes() != (second / "model.safetensors").read_bytes()


def test_chance_is_what_guessing_gives(toys, start):
    """Recalls beside random orders, regions beside random choices."""
    found = Comparison(toys.world, toys.regions, toys.gold_regions, toys.world).chance("retrieval", start)
    random, own = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    guessed = []
    for _ in range(400):
        ranks = rank(random.random((18, 6)), own)
        guessed.append(recalls(ranks.images, ranks.texts))
    for name in guessed[0]:
        assert found[f"test/{name}"] == pytest.approx(np.mean([g[name] for g in guessed]), abs=0.03)
    found = Comparison(toys.world, toys.regions, toys.gold_regions, toys.world).chance("refcoco_plus", start)
    assert 0.15 < found["testA/accuracy"] < 0.6


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--start", "runs/demo"], 2), (["--start", "a={start}", "--task", "nlvr2"], 2), (["--start", "a={missing}"], 1)],
)
def test_wrong_usage(toys, start, tmp_path, options, code):
    options = [option.format(start=start, missing=tmp_path / "none") for option in options]
    folders = ["--world", str(toys.world), "--regions", str(toys.regions), "--gold-regions", str(toys.gold_regions)]
    result = CliRunner().invoke(app, [*folders, *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == code
    assert not (tmp_path / "out").exists()
