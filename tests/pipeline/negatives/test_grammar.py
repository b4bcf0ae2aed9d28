"""The forms of English words."""

import pytest

from pipeline.negatives.grammar import IRREGULAR, choose_article, find_article, inflect_noun, inflect_verb, match_case
from pipeline.negatives.lexicon import read_lexicon


@pytest.mark.parametrize(
    ("name", "plural", "expected"),
    [
        ("dog", True, "dogs"),
        ("wine glass", True, "wine glasses"),
        ("woman", True, "women"),
        ("sheep", True, "sheep"),
        ("dogs", False, "dog"),
        ("tennis players", False, "tennis player"),
        ("jeans", False, None),
        ("shelf", True, "shelves"),
    ],
)
def test_nouns_take_the_number_of_their_place(name, plural, expected):
    assert inflect_noun(name, plural=plural) == expected


@pytest.mark.parametrize(
    ("verb", "form", "expected"),
    [
        ("throw", "holding", "throwing"),
        ("throw", "holds", "throws"),
        ("throw", "hold", "throw"),
        ("throw", "carried", None),
        ("sit", "standing", "sitting"),
        ("lie", "sitting", "lying"),
        ("carry", "holds", "carries"),
        ("wash", "wears", "washes"),
        ("drop", "carried", "dropped"),
        ("feed", "petted", "fed"),
        ("walk away from", "leaning", "walking away from"),
        ("without", "filled", "without"),
    ],
)
def test_verbs_take_the_form_of_the_verb_that_they_replace(verb, form, expected):
    assert inflect_verb(verb, form) == expected


def test_every_verb_of_the_lexicon_can_be_inflected():
    lexicon = read_lexicon()
    sections = (lexicon.relations, lexicon.actions)
    verbs = {other.split()[0] for s in sections for name in s.names for other in s.alternatives(name)}
    for verb in verbs:
        assert inflect_verb(verb, "holding")
        assert inflect_verb(verb, "holds")
    irregular = {
        "come",
        "hold",
        "take",
        "give",
        "get",
        "drive",
        "fall",
        "build",
        "draw",
        "grow",
        "wear",
        "speak",
        "lose",
    }
    assert not (verbs & irregular) - IRREGULAR.keys()


@pytest.mark.parametrize(
    ("following", "article"),
    [
        ("owl", "an"),
        ("hour", "an"),
        ("uniform", "a"),
        ("dog", "a"),
        ("one", "a"),
        ("one-way", "a"),
        ("orange", "an"),
        ("upright", "an"),
    ],
)
def test_articles_fit_what_follows(following, article):
    assert choose_article(following) == article


def test_an_article_is_found_with_its_place():
    assert find_article("There is An ") == (9, "An")
    assert find_article("There is a big ") is None
    assert find_article("banana ") is None


def test_capital_letters_stay():
    assert [match_case("two owls", like) for like in ("Dogs", "DOGS", "dogs", "A")] == [
        "Two owls",
        "TWO OWLS",
        "two owls",
        "Two owls",
    ]
