"""The training command."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from parsers.neural.parser import NeuralParser
from parsers.train.__main__ import app

CAPTIONS = [
    ("two dogs on a red mat", [("dogs", "is", "2"), ("dogs", "on", "mat"), ("mat", "is", "red")]),
    ("a man wearing a hat", [("man", "wear", "hat")]),
    ("a cat under the car", [("cat", "under", "car")]),
    ("the blue car", [("car", "is", "blue")]),
    ("a zebra", [("unicorn",)]),  # cannot be aligned
]


@pytest.fixture
def arguments(tmp_path):
    gold = tmp_path / "gold.jsonl"
    rows = [{"caption": caption, "triples": triples} for caption, triples in CAPTIONS for _ in range(12)]
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "captions.txt").write_text("a dog sitting on a blue mat next to a cat\n\na man with a red hat\n")
    paths = ["--gold", gold, "--dev-gold", gold, "--unlabelled", tmp_path / "captions.txt", "--out", tmp_path / "model"]
    return [*map(str, paths), "--width", "16"]


def test_a_model_is_trained_scored_and_loaded(arguments, tmp_path):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "48 of 60 gold captions could be aligned" in result.output
    assert json.loads((tmp_path / "model/scores.json").read_text())["captions"] == 60
    parser = NeuralParser(tmp_path / "model")
    (graph,) = parser.parse(["two dogs on a red mat"])
    assert graph.caption == "two dogs on a red mat"


def test_teachers_are_trained_first_and_only_once(arguments, bert, mpnet, tmp_path):
    arguments += ["--pretrained", str(bert), "--pretrained", str(mpnet), "--teachers", str(tmp_path / "teachers")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "teachers").rglob("*.safetensors")}
    assert {path.parent.name for path in made} == {"pretrained-0", "pretrained-1"}
    again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    assert made == {path: path.stat().st_mtime_ns for path in made}
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("model", "again")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    swapped = CliRunner().invoke(app, [*arguments[:-6], "--pretrained", str(mpnet), *arguments[-2:]])
    assert swapped.exit_code == 1
    assert "pretrained-0: holds a teacher of other gold graphs or another model" in str(swapped.exception)
    other = tmp_path / "other.jsonl"
    other.write_text((json.dumps({"caption": "six geese", "triples": [["goose", "is", "6"]]}) + "\n") * 4)
    refused = CliRunner().invoke(app, [*arguments, "--gold", str(other)])
    assert refused.exit_code == 1
    assert "a teacher of other gold graphs or another model" in str(refused.exception)


def test_bad_input_is_named(tmp_path):
    (tmp_path / "gold.csv").write_text("a,b\n")
    arguments = ["--gold", str(tmp_path / "gold.csv"), "--dev-gold", str(tmp_path / "gold.csv"), "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_a_folder_without_a_pretrained_model_is_named(arguments, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--pretrained", str(tmp_path)])
    assert result.exit_code == 1
    assert "config.json" in str(result.exception)
