"""``run.yaml``: what is trained, and every start of the run."""

import pytest
import torch
import yaml

from parsers.command import InputError
from pretrain.recipe import PretrainRecipe
from pretrain.training.distributed import DistributedContext
from pretrain.training.provenance import write_run

ALONE = DistributedContext(0, 1, torch.device("cpu"))


@pytest.fixture
def recipe():
    return PretrainRecipe.model_validate({"model": "model.json", "steps": 3, "batch_size": 4})


def test_each_resumption_adds_a_start(tmp_path, recipe):
    for step in (0, 2, 3):
        write_run(tmp_path, recipe, {"manifest": "abc"}, ALONE, step)
    found = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert found["recipe"] == recipe.model_dump(mode="json")
    assert found["manifest"] == "abc"
    assert [start["from_step"] for start in found["starts"]] == [0, 2, 3]
    start = found["starts"][0]
    assert start["ranks"] == 1
    assert {"torch", "deepspeed", "numpy"} <= start["packages"].keys()
    assert {"version"} <= start["code"].keys()


def test_a_run_from_its_beginning_has_no_history(tmp_path, recipe):
    write_run(tmp_path, recipe, {}, ALONE, 3)
    write_run(tmp_path, recipe, {}, ALONE, 0)
    assert len(yaml.safe_load((tmp_path / "run.yaml").read_text())["starts"]) == 1


@pytest.mark.parametrize("text", ["starts: [", "recipe: 3", "7"])
def test_a_damaged_history_is_refused(tmp_path, recipe, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run\.yaml: cannot be read: (.|\n)*remove it"):
        write_run(tmp_path, recipe, {}, ALONE, 2)
