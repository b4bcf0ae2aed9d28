"""Verbs and their forms."""

import pytest

from parsers.lemmatizer import Lemmatizer
from parsers.verbs import find_verbs


@pytest.mark.parametrize(
    ("form", "verbs"),
    [
        ("posed", ("pose",)),
        ("passes", ("pass",)),
        ("laid", ("lay",)),
        ("hugging", ("hug",)),
        ("carries", ("carry",)),
        ("ride", ("ride",)),
        ("across", ()),
        ("", ()),
    ],
)
def test_verbs_of_a_form(form, verbs):
    assert find_verbs(form) == verbs


def test_the_verbs_are_those_of_the_lemmatizer():
    lemmatizer = Lemmatizer()
    stems = ("stand", "carry", "pose", "cross", "photograph", "leav", "l", "s", "saw", "found", "caught", "sat", "went")
    for form in [stem + end for stem in stems for end in ("", "s", "es", "ies", "ed", "ing", "ning", "ting")]:
        assert set(find_verbs(form)) == set(lemmatizer.lemmas(form, "verb"))
