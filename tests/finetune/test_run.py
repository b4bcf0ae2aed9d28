"""Fine-tuning: what is refused before anything is trained."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from finetune.run import app
from parsers.command import InputError

RECIPE = {"train": ["train"], "steps": 1, "batch_size": 2, "task": {}, "optimizer": {}}


def invoke(tmp_path, task, recipe, *more):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    folders = [part for name in ("start", "data", "out") for part in (f"--{name}", str(tmp_path / name))]
    return CliRunner().invoke(app, [task, "--config", str(tmp_path / "recipe.yaml"), *folders, *more])


def test_an_unknown_task_is_wrong_usage(tmp_path):
    assert invoke(tmp_path, "nlvr2", RECIPE).exit_code == 2


@pytest.mark.parametrize(
    ("recipe", "more", "message"),
    [
        (RECIPE | {"task": {"least_count": 0}}, [], r"task\.least_count"),
        (RECIPE | {"task": {"margin": 0.3}}, [], r"task\.margin"),
        (RECIPE, ["--set", "task.max_text=1"], r"task\.max_text"),
        (RECIPE | {"train": []}, [], "train"),
    ],
)
def test_a_wrong_recipe_is_refused_by_key(tmp_path, recipe, more, message):
    result = invoke(tmp_path, "vqa", recipe, *more)
    assert isinstance(result.exception, InputError)
    assert re.search(message, str(result.exception))
    assert not (tmp_path / "out").exists()
