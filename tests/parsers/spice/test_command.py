"""The command that scores captions."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from parsers.command import InputError
from parsers.evaluate import synonyms
from parsers.evaluate.__main__ import app as evaluate_app
from parsers.spice.__main__ import app


@pytest.fixture
def files(tmp_path):
    references, candidates = tmp_path / "references.json", tmp_path / "candidates.jsonl"
    annotations = [
        {"image_id": 391895, "caption": "two dogs on a red sofa"},
        {"image_id": 391895, "caption": "dogs on a sofa"},
        {"image_id": 42, "caption": "a big car"},
    ]
    references.write_text(json.dumps({"annotations": annotations}))
    candidates.write_text(
        '{"image_id": 42, "caption": "a car"}\n{"image_id": "391895", "caption": "dogs on a red sofa"}\n'
    )
    return references, candidates


def call(*arguments, command=app):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_prints_a_table_and_writes_every_image(files, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "parsers.spice", *files, "--without-synonyms", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 images, 3 references" in done.stdout
    assert "synonyms: none" in done.stdout
    record = json.loads(out.read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert record["scores"]["SPICE"]["All"]["numImages"] == 2
    dogs, car = record["images"]
    assert (dogs["image_id"], dogs["caption"]) == ("391895", "dogs on a red sofa")
    assert dogs["SPICE"]["All"]["pr"] == 1
    assert dogs["SPICE"]["Color"]["f"] == 1
    assert dogs["SPICE"]["Cardinality"]["re"] == 0
    assert car["SPICE"]["Color"] == {"pr": None, "re": None, "f": None}
    assert car["SPICE"]["All"]["f"] == pytest.approx(2 / 3)


def test_ids_that_differ_are_named(files, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"42": "a car", "43": "a cat"}')
    failed = call(files[0], other)
    assert isinstance(failed.exception, InputError)
    assert "1 of 3 images have references, but no candidate: 391895" in str(failed.exception)
    assert "other.json" in str(failed.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parser", "nonesuch"], "there is no parser 'nonesuch'"),
        (["--out", "nowhere/out.json"], "the folder nowhere does not exist"),
    ],
)
def test_wrong_options_are_errors(files, options, message):
    failed = call(*files, *options)
    assert isinstance(failed.exception, InputError)
    assert message in str(failed.exception)


@pytest.mark.parametrize("command", [app, evaluate_app])
def test_without_wordnet_nothing_is_scored(files, tmp_path, monkeypatch, command):
    def find_nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(synonyms, "distribution", find_nothing)
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"caption": "a dog", "triples": [["dog"]]}\n')
    failed = call(*(files if command is app else ("--gold", gold)), command=command)
    assert isinstance(failed.exception, InputError)
    assert "ernie-vil-pytorch[spice]" in str(failed.exception)
    assert "--without-synonyms" in str(failed.exception)
