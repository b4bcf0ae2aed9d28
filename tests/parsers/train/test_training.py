"""The training command."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from parsers.gold import list_triples
from parsers.neural.parser import NeuralParser
from parsers.train import adaptation, optimization
from parsers.train.__main__ import app
from parsers.train.recipe import ADAPTATION

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
    assert "48 sentences of 60 gold captions could be aligned" in result.output
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


def test_a_parser_is_trained_further_and_keeps_what_it_could_do(arguments, model, tmp_path, monkeypatch):
    monkeypatch.setattr(optimization, "WARM_UP", 10)
    monkeypatch.setattr(adaptation, "ADAPTATION", replace(ADAPTATION, epochs=40, batch=8, rate=1e-2, averaged=0.9))
    rows = [{"caption": "a green zebra", "triples": [["zebra", "is", "green"]]}] * 40
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine, out = str(tmp_path / "mine.jsonl"), tmp_path / "mine"
    further = ["--gold", mine, "--dev-gold", mine, "--start", str(model), "--out", str(out)]
    result = CliRunner().invoke(app, further)
    assert result.exit_code == 0, result.output
    assert "40 sentences of 40 gold captions could be aligned" in result.output
    assert json.loads((out / "scores.json").read_text())["captions"] == 40
    before, after = NeuralParser(model), NeuralParser(out)
    new = [["a green zebra"], [("zebra", "is", "green")]]
    assert list(list_triples(before.parse(new[0])[0])) != new[1]
    assert list(list_triples(after.parse(new[0])[0])) == new[1]
    known = ["a man wearing a red hat"]
    assert list_triples(after.parse(known)[0]) == list_triples(before.parse(known)[0])
    refused = CliRunner().invoke(app, [*further, "--unlabelled", mine])
    assert refused.exit_code == 2
    assert "goes with neither --pretrained nor --unlabelled" in refused.output


def test_what_is_no_parser_is_not_trained_further(arguments, bert, tmp_path):
    refused = CliRunner().invoke(app, [*arguments[:4], "--out", str(tmp_path / "out"), "--start", str(tmp_path)])
    assert refused.exit_code == 1
    assert "holds no parser" in str(refused.exception)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_makes_the_same_parser(arguments, tmp_path):
    def run(out, kill_at=None):
        command = [sys.executable, "-m", "parsers.train", *arguments, "--out", str(tmp_path / out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if kill_at is not None and line.startswith(kill_at):
                process.kill()
        return process.wait()

    assert run("whole") == 0
    assert run("killed", "epoch 2 of") == -signal.SIGKILL
    assert run("killed", "epoch 7 of") == -signal.SIGKILL
    assert run("killed") == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
