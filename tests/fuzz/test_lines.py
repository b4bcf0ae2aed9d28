"""A share of the random command lines of ``make fuzz``."""

from random import Random

import pytest

from tests.fuzz.lines import draw_line, make_files, run_line, show

LINES = 40


def test_random_command_lines_end_with_one_line_or_the_usage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make_files(tmp_path)
    for number in range(LINES):
        words = draw_line(Random(f"test/{number}"))
        assert run_line(words) is None, f"line {number}: {show(words)}"


@pytest.mark.parametrize(
    "words",
    [
        ["pipeline.toyworld.recall", "x" * 300, "--scenes", "text.txt"],
        ["pipeline.toyworld.recall", "y" * 70_000, "--scenes", "text.txt"],
        ["pretrain.report", "--model", "folder", "--config", "recipe.yaml", "--held-out", "x", "--out", "/dev/null"],
    ],
    ids=["a long name", "a longer name", "a device in a folder's place"],
)
def test_names_that_the_system_refuses_are_one_line(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    assert run_line(words) is None
