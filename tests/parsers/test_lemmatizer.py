"""Lemmas of single words."""

import pytest

from parsers.lemmatizer import Lemmatizer


@pytest.fixture(scope="module")
def lemmatizer():
    return Lemmatizer()


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        ("dogs", "dog"), ("buses", "bus"), ("feet", "foot"), ("grass", "grass"), ("glasses", "glass"),
        ("people", "people"), ("leaves", "leaf"), ("series", "series"), ("sitting", "sitting"), ("frobs", "frobs"),
    ],
)  # fmt: skip
def test_nouns_lose_their_endings_as_in_wordnet(lemmatizer, word, lemma):
    assert lemmatizer(word) == lemma


def test_the_is_of_an_attribute_is_no_word(lemmatizer):
    assert lemmatizer.triple(("dogs", "is", "walking dogs")) == ("dog", "is", "walking dog")


def test_every_lemma_of_a_part_of_speech_is_returned(lemmatizer):
    assert set(lemmatizer.lemmas("leaves", "noun")) == {"leaf", "leave"}
    assert set(lemmatizer.lemmas("leaves", "verb")) == {"leave"}
    assert lemmatizer.lemmas("frobs", "noun") == ()


@pytest.mark.parametrize(("word", "known"), [("dogs", True), ("riding", True), ("quickly", True), ("dgo", False)])
def test_words_of_wordnet_are_known(lemmatizer, word, known):
    assert lemmatizer.knows(word) == known
