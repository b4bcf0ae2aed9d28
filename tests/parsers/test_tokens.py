"""Captions go into spaCy, and tokens become spans of captions."""

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from parsers.graph import Span
from parsers.tokens import MAX_CHARACTERS, find_spans, prepare_caption


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_every_character_stays_in_its_place(caption):
    text = prepare_caption(caption)
    assert len(text) == len(caption)
    text.encode()  # spaCy could not encode a lone surrogate
    assert all(a == b or "\ud800" <= b <= "\udfff" for a, b in zip(text, caption, strict=True))


def test_a_long_text_is_cut_off():
    assert prepare_caption("a" * (MAX_CHARACTERS + 5)) == "a" * MAX_CHARACTERS


@pytest.mark.parametrize(
    ("places", "spans"),
    [([], ()), ([1], (Span(2, 5),)), ([2, 1], (Span(2, 9),)), ([4, 1, 1], (Span(2, 5), Span(13, 16)))],
)
def test_neighbouring_tokens_share_a_span(places, spans):
    doc = spacy.blank("en")("a red dog on its mat")
    assert find_spans(doc[i] for i in places) == spans


def test_what_comes_before_the_caption_is_not_counted():
    doc = spacy.blank("en")("the sign")
    assert find_spans([doc[1]], offset=4) == (Span(0, 4),)
