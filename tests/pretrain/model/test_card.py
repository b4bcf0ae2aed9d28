"""The card of a model."""

import math
from pathlib import Path

import yaml
from pydantic import BaseModel

from pretrain.model.card import ModelFacts, describe_recipe, write_card


class Recipe(BaseModel):
    steps: int = 4
    model: Path = Path("/home/someone/model.json")
    note: str = "```\n---\n| a"
    dev: str | None = None


def make(folder, metrics, **changes):
    facts = {
        "title": "ERNIE-ViL for vqa",
        "purpose": "Answers.",
        "data": {"examples": "7 of train"},
        "data_name": "vqa, val",
        "recipe": describe_recipe(Recipe()),
        **changes,
    }
    write_card(folder, ModelFacts(**facts), metrics, 1200)
    return (folder / "README.md").read_text()


def test_metrics_stand_in_the_head_and_in_the_text(tmp_path):
    text = make(tmp_path, {"dev/accuracy": 0.512345, "dev/loss": math.nan})
    head = yaml.safe_load(text.split("---\n")[1])
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["dataset"]["name"] == "vqa, val"
    assert result["metrics"] == [{"type": "dev/accuracy", "value": 0.512345}]
    assert (head["license"], head["license_name"]) == ("other", "FILL IN")
    assert "| dev/accuracy | 0.5123 |" in text
    assert "| steps | 1,200 |" in text
    assert "nan" not in text
    assert make(tmp_path, {"dev/accuracy": 0.512345, "dev/loss": math.nan}) == text


def test_weights_that_were_not_measured_have_no_metrics(tmp_path):
    text = make(tmp_path, {})
    assert "Nothing was measured of these weights." in text
    assert "model-index" not in text


def test_paths_of_the_machine_stay_out_and_nothing_breaks_the_page(tmp_path):
    text = make(tmp_path, {}, data={"a|b": "[x](y)\n# z"})
    assert "someone" not in text
    assert "| a\\|b | \\[x\\](y) # z |" in text
    fence = next(line for line in text.splitlines() if line.startswith("```") and line.endswith("yaml"))
    block = text.split(fence + "\n")[1].split("\n" + fence.removesuffix("yaml"))[0]
    assert yaml.safe_load(block) == {"steps": 4, "note": "```\n---\n| a"}
