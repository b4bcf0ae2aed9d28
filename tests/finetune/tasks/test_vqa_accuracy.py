"""The official accuracy of VQA."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.tasks.vqa_accuracy import compute_accuracy, normalise


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("A red Bus", "red bus"),
        ("the an a", ""),
        ("Two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("ten dogs and one cat", "10 dogs and 1 cat"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("its", "its"),  # not in the official table
        ("somebody'd", "somebodyd"),  # the wrong way round there, too
        ("its 11:10", "its 11:10"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("red/white", "red white"),
        ("1,000", "1000"),
        ("1,000 - 2/3", "1000 23"),  # next to such a number all marks vanish
        ("t-shirt", "t shirt"),
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("st. mary", "st mary"),
        ("what?!", "what"),
        (" line\nbreak\there ", "line break here"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_officially(answer, normalised):
    assert normalise(answer) == normalised


@pytest.mark.parametrize(
    ("answer", "annotated", "expected"),
    [
        ("yes", ["yes"] * 10, 1.0),
        ("no", ["yes"] * 10, 0.0),
        ("yes", ["yes"] + ["no"] * 9, 0.9 * 1 / 3),
        ("yes", ["yes"] * 2 + ["no"] * 8, 0.8 * 2 / 3 + 0.2 * 1 / 3),
        ("yes", ["yes"] * 3 + ["no"] * 7, 0.7 * 1 + 0.3 * 2 / 3),
        ("yes", ["yes"] * 4 + ["no"] * 6, 1.0),
        ("no", ["yes"] * 5 + ["no"] * 5, 1.0),  # a tie: both are right
        ("The Two", ["2"] * 10, 1.0),
        ("red/white", ["red/white"] * 9 + ["red-white"], 1.0),
        ("red white", ["red/white"] * 10, 0.0),  # answers that are all the same keep their punctuation, officially
        ("0", ["none"] * 9 + ["nothing"], 1.0),
        ("cat", ["the cat"] * 5 + ["a cat"] * 5, 1.0),
        ("don't", ["dont"] * 5 + ["no"] * 5, 1.0),
        ("1000", ["1,000"] * 5 + ["1000."] * 5, 1.0),
        ("a dog", ["dog"] * 10, 1.0),
        ("yes", [" yes\n"] * 10, 1.0),
    ],
)
def test_accuracy_of_hand_made_cases(answer, annotated, expected):
    assert compute_accuracy(answer, annotated) == pytest.approx(expected)


@given(st.sampled_from("abcd"), st.lists(st.sampled_from("bcd"), min_size=1, max_size=10))
def test_accuracy_is_the_mean_over_all_subsets_without_one(answer, annotated):
    subsets = [annotated[:i] + annotated[i + 1 :] for i in range(len(annotated))]
    expected = np.mean([min(1, subset.count(answer) / 3) for subset in subsets])
    assert compute_accuracy(answer, annotated) == pytest.approx(expected if answer != "a" else 0)


@given(st.text("ab ,.'-/1two", max_size=12))
def test_normalised_answers_have_no_loose_spaces(answer):
    assert normalise(answer) == " ".join(normalise(answer).split())
