"""The command as users start it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finetune.compose.__main__ import app
from finetune.compose.scoring import WORDS
from pretrain.cloze import NONE, OTHER, OWN
from shards.storage.files import read_record
from tests.finetune.worlds import regions_folder
from tests.pipeline.outputs import contents

SKIP = "--skip-missing-images"


def compose(toy_suite, out, *more):
    line = [str(toy_suite.suite), "--model", str(toy_suite.model), "--regions", str(toy_suite.regions)]
    return CliRunner().invoke(app, [*line, "--out", str(out), *more])


def test_a_suite_is_scored_by_kind(toy_suite, tmp_path):
    result = compose(toy_suite, tmp_path / "a")
    assert result.exit_code == 0, result.output
    (suite,) = read_record(tmp_path / "a/scores.json")["suites"]
    assert {kind: found["pairs"] for kind, found in suite["kinds"].items()} == dict.fromkeys(
        ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"), 8
    )
    assert set(suite["all"]["accuracies"]) == {OWN, OTHER, NONE, WORDS}
    for way in (NONE, WORDS):
        assert suite["all"]["accuracies"][way]["accuracy"] == 0.5
    lines = [json.loads(line) for line in (tmp_path / "a/pairs.jsonl").read_text().splitlines()]
    right = sum(line["scores"][OWN][0] > line["scores"][OWN][1] for line in lines)
    assert suite["all"]["accuracies"][OWN]["accuracy"] == right / 40
    assert "solves" not in result.output
    assert compose(toy_suite, tmp_path / "b").exit_code == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_suite_that_is_solved_blind_is_said_to_be(toy_suite, tmp_path):
    """Each pair is turned so that its caption is the likelier one."""
    assert compose(toy_suite, tmp_path / "a").exit_code == 0
    turned = []
    for line in (tmp_path / "a/pairs.jsonl").read_text().splitlines():
        pair = json.loads(line)
        order = 1 if pair["scores"][WORDS][0] > pair["scores"][WORDS][1] else -1
        captions = (pair["caption"], pair["negative_caption"])[::order]
        turned.append({"image": pair["image"], "caption": captions[0], "negative_caption": captions[1]})
    (tmp_path / "leaky.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in turned))
    result = compose(toy_suite, tmp_path / "b", str(tmp_path / "leaky.jsonl"))
    assert result.exit_code == 0, result.output
    assert "does not see the images solves leaky (words alone 100.0%), all (words alone 100.0%)" in " ".join(
        result.output.split()
    )
    first, second = read_record(tmp_path / "b/scores.json")["suites"]
    assert (first["all"]["verdict"], second["all"]["verdict"]) == ("", "solved blind")


def test_pairs_that_are_alike_to_the_model_are_counted(toy_suite, tmp_path):
    long = " ".join(["cube"] * 30)
    (tmp_path / "own.csv").write_text(f"image,caption,negative_caption\n1,{long} red,{long} blue\n2,red,blue\n")
    result = compose(toy_suite, tmp_path / "out", str(tmp_path / "own.csv"))
    assert "1 pair wrong in any case" in result.output
    assert read_record(tmp_path / "out/scores.json")["suites"][1]["same_word_pieces"] == 1


@pytest.mark.parametrize("name", ["missing", "regions"])
def test_mistakes_are_answered_before_anything_is_written(toy_suite, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    regions_folder(Path("regions"), {"1": [[1, 1, 50, 50]]}, features=12)
    lines = {
        "missing": [str(toy_suite.suite), "--model", "nothing", "--regions", str(toy_suite.regions)],
        "regions": [str(toy_suite.suite), "--model", str(toy_suite.model), "--regions", "regions", SKIP],
    }
    result = CliRunner().invoke(app, [*lines[name], "--out", "out"])
    message = {"missing": "neither a folder nor a model", "regions": "features of size 12"}[name]
    assert message in str(result.exception)
    assert not Path("out").exists()


def test_regions_must_be_named(toy_suite, tmp_path):
    line = [str(toy_suite.suite), "--model", str(toy_suite.model), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2
    assert "--regions" in result.output
