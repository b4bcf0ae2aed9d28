"""The command `pipeline.pack`: what it says of the input beside the accounts."""

import pytest
from typer.testing import CliRunner

from parsers.graph import SceneGraph
from pipeline.pack.__main__ import app
from shards.schema import Caption
from tests.pipeline.pack.tables import graphs_folder, images, make_row, regions_folder, write_vocabulary


@pytest.mark.parametrize(
    ("text", "said"),
    [("a red fire hydrant on the sidewalk", False), ("zebras graze among acacias", True), ("a man, 漢漢漢漢", True)],
)
def test_a_vocabulary_that_knows_few_of_the_words_is_said(tmp_path, text, said):
    ids, _ = images(3)
    graphs = graphs_folder(tmp_path / "graphs", [(i, Caption("0", text, SceneGraph(text))) for i in ids])
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    vocabulary = write_vocabulary(tmp_path)
    arguments = ["--graphs", graphs, "--regions", regions, "--tokenizer", vocabulary, "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert ("knows few of the words" in result.output) == said


def test_a_vocabulary_may_repeat_a_piece(tmp_path):
    """The tokenizer then has fewer pieces than the file has lines, and the last line has the largest number."""
    ids, _ = images(3)
    graphs = graphs_folder(tmp_path / "graphs", [(i, Caption("0", "last", SceneGraph("last"))) for i in ids])
    regions = regions_folder(tmp_path / "regions", [make_row(i, 1) for i in ids])
    vocabulary = write_vocabulary(tmp_path)
    first = vocabulary.read_text().splitlines()[-1]
    vocabulary.write_text(vocabulary.read_text() + f"{first}\nlast\n")
    arguments = ["--graphs", graphs, "--regions", regions, "--tokenizer", vocabulary, "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0
