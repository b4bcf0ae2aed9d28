"""Recipes: those that come with the project, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from finetune.tasks import TASKS, import_task
from finetune.tasks.vqa import VqaSettings
from finetune.training.recipe import FineTuneRecipe
from parsers.command import InputError

RECIPES = Path(__file__).resolve().parents[3] / "configs/finetune"
VALUES = {"train": ["train"], "steps": 1, "batch_size": 2, "task": {}, "optimizer": {}}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=str)
def test_recipes_are_valid(path):
    task = import_task(path.parent.name)
    recipe = FineTuneRecipe.for_task(task.settings_type).load(path, [])
    assert all(step < (recipe.steps or np.inf) for step in recipe.optimizer.decay_steps)


def test_every_task_has_recipes():
    assert {path.name for path in RECIPES.iterdir()} == TASKS.keys()


def test_the_settings_of_the_task_are_checked_and_kept(tmp_path):
    recipe_type = FineTuneRecipe.for_task(VqaSettings)
    recipe = recipe_type.model_validate({**VALUES, "task": {"least_count": 3}})
    assert recipe.task == VqaSettings(least_count=3)
    assert recipe.model_dump()["task"]["least_count"] == 3
    assert list(recipe_type.model_fields) == list(FineTuneRecipe.model_fields), "run.yaml keeps its order"
    (tmp_path / "recipe.yaml").write_text("train: [train]\nsteps: 1\nbatch_size: 2\noptimizer: {}\ntask: {margin: 1}\n")
    with pytest.raises(InputError, match=r"task\.margin"):
        recipe_type.load(tmp_path / "recipe.yaml", [])


@pytest.mark.parametrize("change", [{"train": []}, {"batch_size": 0}, {"hidden_dropout": 1.0}, {"epoch": 3}])
def test_refused_values(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        FineTuneRecipe.for_task(VqaSettings).model_validate({**VALUES, **change})
