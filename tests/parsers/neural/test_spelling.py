"""Misspelt words are corrected, and rare words are left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.spelling import SpellingCorrector, find_lookalikes
from parsers.neural.tokenizer import TokenizedCaption, tokenize


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ("plaet", "plate"), ("pltae", "plate"), ("plte", "plte"), ("platte", "plate"), ("purpl", "purple"),
        ("wmoan", "woman"), ("womn", "womn"), ("slate", "slate"), ("plates", "plates"), ("plata", "plate"),
        ("aplate", "plate"), ("olate", "plate"), ("bluw", "blue"), ("alue", "alue"), ("blu", "blu"),
        ("bluee", "blue"), ("boqueet", "boqueet"), ("épltae", "épltae"), ("plite", "polite"),
    ],
)  # fmt: skip
def test_slips_are_repaired_and_rare_words_are_not(form, meant):
    correct = SpellingCorrector(["plates", "slate"], ["woman", "plate", "blue", "purple", "polite"])
    words = correct(tokenize(f"a {form}"))
    assert words.forms[1] == meant
    assert words.offsets == tokenize(f"a {form}").offsets


WORDS = {"plate", "plates", "slate", "late", "palate", "blue", "glue", "bluet", "lube", "zebra"}


def test_words_that_look_like_slips_are_known():
    assert find_lookalikes(["plate", "blue"], WORDS.__contains__) == [
        "blue", "bluet", "glue", "late", "palate", "plate", "plates", "slate",
    ]  # fmt: skip


@given(st.text("abcdef", min_size=5, max_size=8), st.integers(0, 7), st.text("abcdefg", max_size=2), st.integers(0, 1))
def test_what_may_be_repaired_is_among_the_lookalikes(frequent, place, letters, cut):
    form = frequent[:place] + letters + frequent[place + cut :]
    repaired = SpellingCorrector([], [frequent])(TokenizedCaption([form], [(0, len(form))])).forms[0]
    assert repaired in (form, frequent)
    assert repaired == form or form in find_lookalikes([frequent], lambda _: True)
