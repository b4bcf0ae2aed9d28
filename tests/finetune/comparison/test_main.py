"""The tasks of a toy world, each trained for two steps and tested, beside guessing."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from finetune.comparison import runs
from finetune.comparison.__main__ import app
from finetune.comparison.runs import COMPARED, RECIPES


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
    monkeypatch.setattr(runs, "RECIPES", tmp_path / "recipes")
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
        "from pathlib import Path; from finetune.comparison import __main__, runs; from parsers.command import run; "
        f"runs.RECIPES = Path({str(tmp_path / 'recipes')!r}); run(__main__.app)"
    )
    more = ["--task", "vqa", "--seeds", "2", "--learning-rate", "1e-3"]
    again = subprocess.run([sys.executable, "-c", script, *command, *more], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    found = json.loads((tmp_path / "out/tasks.json").read_text())
    assert len(found["vqa"]["pretrained"]["test/accuracy"]) == 2
    assert found["vqa"]["pretrained"]["learning_rate"] == 1e-3
    assert "±" in (tmp_path / "out/tasks.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--start", "a={start}", "--start", "runs/demo"], 2),
        (["--start", "a={start}", "--task", "nlvr2"], 2),
        (["--start", "a={missing}"], 1),
    ],
)
def test_wrong_usage(toys, start, tmp_path, options, code):
    options = [option.format(start=start, missing=tmp_path / "none") for option in options]
    folders = ["--world", str(toys.world), "--regions", str(toys.regions), "--gold-regions", str(toys.gold_regions)]
    result = CliRunner().invoke(app, [*folders, *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == code
    assert not (tmp_path / "out").exists()
