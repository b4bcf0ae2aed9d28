"""The stage that parses captions: its partitions, and what it keeps of the graphs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import parsers
from parsers.command import InputError
from parsers.graph import Attribute, Object, SceneGraph, Span
from pipeline.execution.parts import Reject
from pipeline.graph_table import read_graphs
from pipeline.parse.__main__ import app
from pipeline.parse.stage import ParseStage
from shards.stage_folder import read_statistics
from tests.pipeline.parse.sources import jsonl, write
from tests.pipeline.releases import check_other_formats_are_refused


def partitions(sources, size):
    return list(ParseStage(tuple((path, "jsonl") for path in sources), "sng", "1", size).partitions())


def test_the_same_caption_of_an_image_is_taken_once_also_over_two_files(tmp_path):
    row = {"image_id": "a", "caption_id": "1", "caption": "a bear"}
    first = write(tmp_path, "1.jsonl", jsonl(row, row | {"image_id": "b"}, row | {"caption_id": "2"}))
    second = write(tmp_path, "2.jsonl", jsonl(row | {"caption": " a bear"}, row | {"caption": "a bear."}))
    (partition,) = partitions([first, second], 100)
    assert partition.rows.select(["image_id", "caption"]).to_pylist() == [
        {"image_id": "a", "caption": "a bear"},
        {"image_id": "b", "caption": "a bear"},
        {"image_id": "a", "caption": "a bear."},
    ]
    assert partition.rejects == [
        Reject(str(first), "line 3", "duplicate caption of the image"),
        Reject(str(second), "line 1", "duplicate caption of the image"),
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=20), st.integers(1, 7))
def test_partitions_hold_every_row_once_in_order(tmp_path_factory, texts, size):
    path = write(tmp_path_factory.mktemp("t"), "a.jsonl", jsonl(*({"image_id": "i", "caption": t} for t in texts)))
    found = partitions([path], size)
    assert all(len(partition.rows) + len(partition.rejects) == size for partition in found[:-1])
    assert sum(len(partition.rows) + len(partition.rejects) for partition in found) == len(texts)
    kept = [text for partition in found for text in partition.rows["caption"].to_pylist()]
    assert kept == list(dict.fromkeys(text for text in texts if text))


def test_a_folder_that_another_release_began_is_not_gone_on_with(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"image_id": "a", "caption": "a bear"}))
    stage, out = ParseStage(((path, "jsonl"),), "sng", "1", 1), tmp_path / "out"
    check_other_formats_are_refused(stage, out)


class ScoringParser:
    """Finds every word; a word that is a number is the score of the one before it."""

    name, version = "scores", "1"

    def parse(self, captions):
        return [self._graph(caption) for caption in captions]

    def _graph(self, caption):
        found = re.finditer(r"([a-z]+) ([\d.]+)", caption)
        things = tuple(Object(match[1], Span(*match.span(1)), visible=float(match[2])) for match in found)
        attributes = tuple(Attribute(number, "one", thing.span) for number, thing in enumerate(things))
        return SceneGraph(caption, things, attributes)


@pytest.mark.parametrize(
    ("options", "kept", "left_out"),
    [
        ([], {"dog", "cat"}, 2),
        (["--min-visible", "0"], {"dog", "cat", "calm"}, 0),
        (["--min-visible", "0.6"], {"dog"}, 3),
    ],
)
def test_what_is_hardly_visible_is_left_out_and_counted(tmp_path, monkeypatch, options, kept, left_out):
    monkeypatch.setattr(parsers, "get", lambda _: ScoringParser())
    rows = [
        {"image_id": "a", "caption": "dog 0.9 calm 0.4 cat 0.5"},
        {"image_id": "b", "caption": "calm 0.1"},
    ]
    source, out = write(tmp_path, "a.jsonl", jsonl(*rows)), tmp_path / "out"
    result = CliRunner().invoke(app, [str(source), "--out", str(out), "--workers", "1", *options])
    assert result.exit_code == 0, result.exception
    (batch,) = read_graphs(out / "part-00000.parquet", 10)
    assert {node["lemma"] for nodes in batch["objects"].to_pylist() for node in nodes} == kept
    statistics = read_statistics(out)
    assert statistics["objects"] == statistics["attributes"] == 4 - left_out
    for kind in ("objects", "attributes"):
        assert statistics.get(f"left out: {kind} below --min-visible", 0) == left_out


def test_a_rerun_with_another_threshold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parsers, "get", lambda _: ScoringParser())
    source = write(tmp_path, "a.jsonl", jsonl({"image_id": "a", "caption": "dog 0.9"}))
    arguments = [str(source), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "--min-visible", "0.5"]).exit_code == 0
    result = CliRunner().invoke(app, [*arguments, "--min-visible", "0.6"])
    assert isinstance(result.exception, InputError)
    assert "min_visible: 0.5 -> 0.6" in str(result.exception)
    assert CliRunner().invoke(app, [*arguments, "--min-visible", "1.5"]).exit_code == 2
