"""The evaluation command and its figures."""

import json
import subprocess
import sys

import pytest

from parsers.evaluate.evaluation import score_graphs
from parsers.gold import GoldCaption
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.lemmatizer import Lemmatizer


@pytest.fixture(scope="module")
def lemmatizer():
    return Lemmatizer()


CAPTION = "a red hat on a man"
HAT, MAN = Object("hat", Span(6, 9)), Object("man", Span(15, 18))


def graph(attributes=(), relations=()):
    return SceneGraph(CAPTION, (HAT, MAN), attributes, relations)


RED = (Attribute(0, "red", Span(2, 5)),)
ON = (Relation(0, 1, "on", (Span(10, 12),)),)


def test_kinds_are_counted_apart(lemmatizer):
    gold = GoldCaption(CAPTION, (("hat", "is", "red"), ("man", "wear", "hat")))
    result = score_graphs([graph(RED, ON)], [gold], lemmatizer, None)
    assert result.set_match == 0
    assert result.kinds["objects"].f1 == 1
    assert result.kinds["attributes"].precision == 1
    assert result.kinds["relations"].recall == 0
    assert result.causes == {"missing relation: turned round": 1, "wrong relation: turned round": 1}
    assert result.grounded == {"objects": 1, "attributes": 1, "relations": 1}


@pytest.mark.parametrize(
    ("found", "true", "cause"),
    [
        (graph(RED), [("man", "is", "red"), ("hat",)], "wrong attribute: other object"),
        (graph(RED), [("hat", "is", "scarlet"), ("man",)], "wrong attribute: other label"),
        (graph((), ON), [("hat", "above", "man")], "wrong relation: other label"),
        (graph((), ON), [("hat", "on", "boy"), ("man",)], "wrong relation: other object or subject"),
        (graph(RED), [("hat",), ("man",)], "wrong attribute: no counterpart"),
        (graph(), [("hat", "on", "man")], "wrong object without attribute or relation"),
    ],
)
def test_errors_have_causes_and_examples(lemmatizer, found, true, cause):
    result = score_graphs([found], [GoldCaption(CAPTION, tuple(true))], lemmatizer, None)
    assert cause in result.causes
    assert CAPTION in result.examples[cause][0]


def test_nothing_found_and_nothing_true(lemmatizer):
    empty = score_graphs([], [], lemmatizer, None)
    assert (empty.spice, empty.set_match, empty.captions) == (0, 0, 0)
    assert empty.kinds["objects"].f1 == 0


def test_the_command_prints_and_writes_figures(tmp_path):
    gold = tmp_path / "gold.jsonl"
    rows = [{"caption": CAPTION, "triples": [["hat", "is", "red"], ["hat", "on", "man"]]}] * 2
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "parsers.evaluate", "--gold", str(gold), "--out", str(tmp_path / "report.json")]
    command += ["--parser", "dependency", "--without-synonyms"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "100.0%" in shown.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["spice"] == report["set_match"] == report["kinds"]["relations"]["f1"] == 1
    assert report["captions_per_second"] > 0


def test_an_unknown_parser_is_named(tmp_path):
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"caption": "a dog", "triples": [["dog"]]}\n')
    command = [sys.executable, "-m", "parsers.evaluate", "--gold", str(gold), "--parser", "nonesuch"]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "error: there is no parser 'nonesuch'" in failed.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gold", "nowhere.csv"], "nowhere.csv"),
        (["--gold", __file__, "--parser", "nonesuch"], "caption and scene_graph"),
    ],
)
def test_bad_input_is_named(options, message):
    failed = subprocess.run([sys.executable, "-m", "parsers.evaluate", *options], capture_output=True, text=True)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
