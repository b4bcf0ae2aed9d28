"""Recipes of all training runs: keys, values and settings of the command line."""

from pathlib import Path

import pytest

from parsers.command import InputError
from pretrain.training.settings import OptimizerSection, TrainingRecipe, find_recipe
from pretrain.training.trainer import MAY_CHANGE_ON_RESUME


class Recipe(TrainingRecipe):
    optimizer: OptimizerSection = OptimizerSection()


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "recipe.yaml"

    def load(text, *settings):
        path.write_text(text)
        return Recipe.load(path, list(settings))

    return load


def test_settings_change_the_recipe_also_nested_ones(load):
    recipe = load("steps: 3\noptimizer: {clip: 2}", "optimizer.learning_rate=1e-3", "optimizer.clip=4", "steps=5")
    assert (recipe.steps, recipe.optimizer.learning_rate, recipe.optimizer.clip) == (5, 1e-3, 4)
    assert load("epochs: 1", "profile.start=2").profile.start == 2


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("steps: 3\nstepz: 4", [], r"stepz: there is no such key; did you mean steps\?"),
        ("steps: 3", ["learning_rate=1"], r"there is no such key; did you mean optimizer.learning_rate\?"),
        ("steps: 3", ["optimizer.lerning_rate=1"], r"did you mean optimizer.learning_rate\?"),
        ("steps: 3", ["optimiser.clip=1"], r"optimiser: there is no such key; did you mean optimizer\?"),
        ("steps: 3", ["xyzzy=1"], "xyzzy: there is no such key$"),
        ("steps: 0", [], "steps: Input should be greater than or equal to 1"),
        ("steps: 3", ["epochs=1"], "give either steps or epochs"),
        ("steps: 3", ["average=3"], "average 3 needs keep_checkpoints of 3 or more"),
        ("steps: 3", ["offload_optimizer=true"], "needs a zero_stage of 1 or more"),
        ("steps: 3", ["steps"], "expected key=value"),
        ("steps: 3", ["steps.more=1"], "steps is not a section"),
        ("- 3", [], "a recipe is a YAML mapping"),
        ("steps: [", [], "cannot be read as a recipe"),
    ],
)
def test_what_is_wrong_is_named(load, text, settings, message):
    with pytest.raises(InputError, match=message):
        load(text, *settings)


@pytest.mark.parametrize("name", ["tiny", "ablation/words"])
def test_a_recipe_of_the_project_is_found_by_its_name(name):
    assert find_recipe(name, "pretrain").read_text().strip()


def test_a_recipe_may_be_any_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: 3")
    assert find_recipe(str(tmp_path / "mine.yaml"), "pretrain") == tmp_path / "mine.yaml"


def test_a_misspelt_recipe_is_refused_with_the_one_that_is_meant():
    with pytest.raises(InputError, match=r"--config tinny: .*; did you mean tiny\?"):
        find_recipe("tinny", "pretrain")
    with pytest.raises(
        InputError, match="neither a file nor the name of a recipe; recipes are base, base-released, large"
    ):
        find_recipe("my/own.yaml", "finetune/vqa")


def test_a_part_of_an_epoch_is_rounded_up_to_whole_steps(load):
    assert [load(f"epochs: {epochs}").total_steps(7) for epochs in (1, 0.5, 2.01)] == [7, 4, 15]
    assert load("steps: 9").total_steps(7) == 9


def test_the_keys_that_may_change_are_keys():
    known = {*TrainingRecipe.model_fields, "evaluate_steps"}  # the last one is pretraining's
    assert known >= MAY_CHANGE_ON_RESUME
    assert not MAY_CHANGE_ON_RESUME & {"seed", "optimizer", "precision", "steps", "epochs", "compile"}


VALUES = [
    "9" * 5_000,
    "!!int x",
    "2024-99-99",
    "!!float x",
    "!!timestamp x",
    "[" * 5_000,
    "{a: b",
    "[*b]",
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:12])
def test_a_value_that_yaml_cannot_make_is_refused_by_name(tmp_path, value):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"steps: {value}")
    with pytest.raises(InputError, match=r"recipe\.yaml: cannot be read as a recipe: "):
        Recipe.load(path, [])
    path.write_text("steps: 1")
    with pytest.raises(InputError, match="--set steps="):
        Recipe.load(path, [f"steps={value}"])


def test_a_value_that_is_no_path_is_refused(tmp_path):
    class WithModel(Recipe):
        model: Path

    path = tmp_path / "recipe.yaml"
    path.write_text('steps: 3\nmodel: "a\\0b"')
    with pytest.raises(InputError, match=r"recipe\.yaml: a value is no path"):
        WithModel.load(path, [])
