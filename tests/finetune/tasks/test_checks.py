"""Checks of layouts and of predictions."""

import re

import pytest

from finetune.tasks.checks import expect_layout, match_predictions, read_example_id, read_integer, read_text
from parsers.command import InputError


@pytest.mark.parametrize(
    "read",
    [
        lambda: {}["id"],
        lambda: int("x"),
        lambda: [][0],
        lambda: None + 1,
        lambda: None.items(),
        lambda: int(float("inf")),
        lambda: {}["x" * 1000],
    ],
)
def test_an_error_of_reading_names_the_file_and_its_layout(tmp_path, read):
    with (
        pytest.raises(InputError, match=r"x\.json: is not a list of answers: "),
        expect_layout(tmp_path / "x.json", "a list of answers"),
    ):
        read()


@pytest.mark.parametrize("value", [None, True, 1.5, float("inf"), float("nan"), "one", "1.0", [1], {}])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(repr(value)) + "|invalid literal"):
        read_integer(value)


def test_integers_texts_and_ids_are_taken_as_they_stand():
    assert [read_integer(value) for value in (3, 3.0, "3", 2**60 + 1)] == [3, 3, 3, 2**60 + 1]
    assert [read_example_id(value) for value in (3, 3.0, "3", "a.jpg")] == ["3", "3", "3", "a.jpg"]
    assert read_text("") == ""
    for value in (None, 3, ["a"]):
        with pytest.raises(ValueError, match="is no text"):
            read_text(value)
    for value in (None, "", 0.5, ["a"]):
        with pytest.raises(ValueError, match=r"is no integer|invalid literal"):
            read_example_id(value)


def test_other_errors_are_left_alone(tmp_path):
    with pytest.raises(InputError, match=r"^as it was$"), expect_layout(tmp_path, "a list"):
        raise InputError("as it was")
    with pytest.raises(OSError, match="gone"), expect_layout(tmp_path, "a list"):
        raise OSError("gone")


def test_predictions_come_in_the_order_of_the_examples():
    assert match_predictions(["b2", "a1"], ["a", "b"], lambda item: item[0], "letters") == ["a1", "b2"]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], r"2 \(e\.g\. a\) missing, 0 unknown, 0 repeated"),
        (["a1", "b1", "a2"], "0 missing, 0 unknown, 1 repeated"),
        (["a1", "c1"], r"1 \(e\.g\. b\) missing, 1 \(e\.g\. c\) unknown, 0 repeated"),
    ],
)
def test_predictions_of_other_examples_are_refused(predictions, message):
    with pytest.raises(InputError, match=f"not those of the 2 letters of the split: {message}"):
        match_predictions(predictions, ["a", "b"], lambda item: item[0], "letters")
