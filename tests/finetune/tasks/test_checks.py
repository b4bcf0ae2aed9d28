"""Checks of layouts and of predictions."""

import pytest

from finetune.tasks.checks import expect_layout, match_predictions
from parsers.command import InputError


@pytest.mark.parametrize(
    "read", [lambda: {}["id"], lambda: int("x"), lambda: [][0], lambda: None + 1, lambda: None.items()]
)
def test_an_error_of_reading_names_the_file_and_its_layout(tmp_path, read):
    with (
        pytest.raises(InputError, match=r"x\.json: is not a list of answers: "),
        expect_layout(tmp_path / "x.json", "a list of answers"),
    ):
        read()


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
