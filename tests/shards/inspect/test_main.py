"""What the commands print."""

import pytest
from typer.testing import CliRunner

import shards.inspect.__main__ as inspect
from parsers.command import InputError
from shards.manifest import WITH_NEGATIVES
from tests.shards.samples import SAMPLES, TEXT, flip, with_negatives, write_shards


def test_verify_ends_with_an_error_that_counts_the_problems(folder):
    flip(folder / "shard-00001.tar", 600)
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert result.exit_code == 1
    assert isinstance(result.exception, InputError)
    assert "shard-00001.tar" in result.output.replace("\n", "")


def test_a_missing_vocabulary_is_an_input_error(folder):
    (folder / "vocab.txt").unlink()
    result = CliRunner().invoke(inspect.app, ["verify", str(folder)])
    assert isinstance(result.exception, InputError) or "vocab.txt" in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["summary"], ["images", "captions", "boxes", "test 1"]),
        (["head", "-n", "2"], ["285", "a.b", TEXT]),
        (["show", "a.b"], [TEXT, "hat is red", "class "]),
        (["show", "a%2Eb"], [TEXT]),
    ],
)
def test_the_commands_print_what_is_there(folder, arguments, expected):
    command, *rest = arguments
    result = CliRunner().invoke(inspect.app, [command, str(folder), *rest])
    assert result.exit_code == 0, result.output
    for text in expected:
        assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["summary"], "3: swap_object (3)"), (["show", "a.b"], "swap_object  a red man on a hat")],
)
def test_false_captions_are_counted_and_shown(tmp_path, arguments, expected):
    folder = write_shards(tmp_path / "set", [[with_negatives(SAMPLES[1])]], WITH_NEGATIVES)
    command, *rest = arguments
    result = CliRunner().invoke(inspect.app, [command, str(folder), *rest])
    assert result.exit_code == 0, result.output
    assert expected in result.output
