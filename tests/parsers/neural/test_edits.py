"""Edits make labels of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.edits import apply_edit, find_edit, find_phrase_edit, makes_words


@given(form=st.text("abcdefgh-", min_size=1, max_size=9), label=st.text("abcdefgh", min_size=1, max_size=9))
def test_an_edit_makes_its_label(form, label):
    assert apply_edit(find_edit(form, label), form) == label


def test_edits_carry_over_to_other_words():
    edit = find_edit("riding", "ride")
    assert apply_edit(edit, "hiding") == "hide"
    assert apply_edit(find_edit("two", "2"), "pair") == "2"
    assert apply_edit(edit, "x") == "x", "too short"


@pytest.mark.parametrize(
    ("words", "label", "edit"),
    [
        (["cell", "phones"], "cellphone", "^-1+"), (["t", "shirts"], "t-shirt", "~-1+"),
        (["t", "shirt"], "t-shirt", "~-0+"), (["hot", "dogs"], "hot dog", "-1+"), (["dogs"], "dog", "-1+"),
        (["wine", "glass", "ware"], "wine glassware", "^-0+"),
        (["wooden", "toothbrush"], "wooden tooth brush", "=brush"),
    ],
)  # fmt: skip
def test_the_edit_of_a_phrase_may_join_its_last_words(words, label, edit):
    assert find_phrase_edit(words, label) == edit


@pytest.mark.parametrize(
    ("edit", "form", "makes"),
    [
        ("-0+", "xyz", True), ("=2", "xyz", True), ("~-0+", "xyz", True), ("-1+", "dogs", True),
        ("-0+ dog", "hot", True), ("-1+", "glass", False), ("-0+ dog", "xyz", False),
    ],
)  # fmt: skip
def test_an_edit_either_makes_words_or_is_a_mistake(edit, form, makes):
    assert makes_words(edit, form, {"dog", "hot"}.__contains__) == makes
