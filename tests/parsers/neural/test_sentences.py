"""Texts are cut into sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.sentences import find_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A dog . a cat.", ["A dog .", "a cat."]),
        ("Mr. Smith of the U.S. Army waits. He is tall.", ["Mr. Smith of the U.S. Army waits.", "He is tall."]),
        ('Hello... world! "Really?" she said.', ["Hello...", "world!", '"Really?"', "she said."]),
        ("A pole is 3.5 meters tall. A car passes.", ["A pole is 3.5 meters tall.", "A car passes."]),
        ("A clock at 5 p.m. on a wall", ["A clock at 5 p.m. on a wall"]),
        ("The blank is missing.In the back is a tree.", ["The blank is missing.", "In the back is a tree."]),
        ("A title\n\nA text without a mark", ["A title", "A text without a mark"]),
        ("one line\nof a sentence", ["one line\nof a sentence"]),
        ("a dog", ["a dog"]),
        (" . !? ", []),
        ("", []),
    ],
)
def test_sentences_end_at_their_marks(text, sentences):
    assert [text[start:end] for start, end in find_sentences(text)] == sentences


@given(st.text(st.sampled_from('ab .!?\n"A1é'), max_size=60))
def test_no_letter_is_lost_or_read_twice(text):
    found = find_sentences(text)
    kept = [i for start, end in found for i in range(start, end)]
    assert kept == sorted(set(kept))
    assert all(not text[i].isalnum() for i in set(range(len(text))) - set(kept))
    assert all(text[start:end] == text[start:end].strip() for start, end in found)
