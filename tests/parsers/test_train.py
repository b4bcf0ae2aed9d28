"""The training command."""

import json

from typer.testing import CliRunner

from parsers.neural.parser import NeuralParser
from parsers.train import app

CAPTIONS = [
    ("two dogs on a red mat", [("dogs", "is", "2"), ("dogs", "on", "mat"), ("mat", "is", "red")]),
    ("a man wearing a hat", [("man", "wear", "hat")]),
    ("a cat under the car", [("cat", "under", "car")]),
    ("the blue car", [("car", "is", "blue")]),
    ("a zebra", [("unicorn",)]),  # cannot be aligned
]


def test_a_model_is_trained_scored_and_loaded(tmp_path):
    gold = tmp_path / "gold.jsonl"
    rows = [{"caption": caption, "triples": triples} for caption, triples in CAPTIONS for _ in range(12)]
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "captions.txt").write_text("a dog sitting on a blue mat next to a cat\n\na man with a red hat\n")
    arguments = ["--data", gold, "--dev", gold, "--unlabelled", tmp_path / "captions.txt", "--out", tmp_path / "model"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--epochs", "2", "--width", "16"])
    assert result.exit_code == 0, result.output
    assert "48 of 60 gold captions could be aligned" in result.output
    assert json.loads((tmp_path / "model/scores.json").read_text())["captions"] == 60
    parser = NeuralParser(tmp_path / "model")
    (graph,) = parser.parse(["two dogs on a red mat"])
    assert graph.caption == "two dogs on a red mat"


def test_bad_input_is_named(tmp_path):
    (tmp_path / "gold.csv").write_text("a,b\n")
    arguments = ["--data", str(tmp_path / "gold.csv"), "--dev", str(tmp_path / "gold.csv"), "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 1
