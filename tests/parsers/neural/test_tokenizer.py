"""Captions are cut into words with offsets."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.parser import NeuralParser
from parsers.neural.tokenizer import MAX_WORDS, group_by_length, tokenize


def test_words_and_their_places():
    words = tokenize("A man’s t-shirt, 3 dogs!")
    assert list(words.forms) == ["a", "man", "'s", "t", "-", "shirt", ",", "3", "dogs", "!"]
    assert words.offsets[2] == (5, 7)
    assert words.offsets[8] == (19, 23)


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_every_word_is_where_it_says(text):
    words = tokenize(text)
    assert len(words) <= MAX_WORDS
    ends = [0]
    for form, (start, end) in zip(words.forms, words.offsets, strict=True):
        assert text[start:end].lower().replace("’s", "'s") == form
        assert start >= ends[-1]
        ends.append(end)
    spoken = {i for start, end in words.offsets for i in range(start, end)}
    assert all(text[i].isspace() or not text[i].isprintable() or i in spoken for i in range(ends[-1])) or any(
        not character.isascii() for character in text
    )


def test_a_long_text_is_cut_off():
    words = tokenize("a b " * MAX_WORDS)
    assert len(words) == len(words.forms) == len(words.offsets) == MAX_WORDS


def test_captions_are_grouped_by_their_number_of_words():
    captions = map(tokenize, ["two dogs", "", "a big dog", "a dog", "!"])
    assert list(group_by_length(captions).items()) == [(2, [0, 3]), (0, [1]), (3, [2]), (1, [4])]


def test_the_rest_of_an_endless_word_is_not_read_but_its_span_is_whole():
    words = tokenize(f"a {'x' * 60_000} dog")
    assert [len(form) for form in words.forms] == [1, 100, 3]
    assert words.offsets[1] == (2, 60_002)


def test_endless_words_take_little_memory():
    captions = [chr(ord("a") + n) * 60_000 for n in range(26)]
    tracemalloc.start()
    NeuralParser().parse(captions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000
