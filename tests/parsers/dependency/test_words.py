"""What single words of a tree are, and how objects and verbs are labelled."""

import pytest

from parsers.dependency import words


@pytest.mark.parametrize(
    ("question", "caption", "yes"),
    [
        (words.is_word, "a t-shirt, 3 dogs!", "a t shirt 3 dogs"),
        (words.is_verb, "a man is riding a horse", "is riding"),
        (words.is_wearable, "a man in glasses and a hat on a horse", "glasses hat"),
        (words.is_before_hyphen, "a chain-link fence - and a wall", "chain"),
        (words.is_name_part, "a tennis player on a hot dog by a brick wall", "tennis hot"),
        (words.has_name_behind, "a yellow fire hydrant", "fire"),
        (words.is_owner, "a tree branch and a brick wall", "tree"),
        (words.is_shade, "a dark green hat and a dark haired man", "dark dark"),
        (words.lacks_object, "the shirt he wears and the man who wears a hat", "wears"),
    ],
)
def test_questions_about_a_word(nlp, question, caption, yes):
    assert " ".join(token.text for token in nlp(caption) if question(token)) == yes


def test_a_hyphenated_word_is_three_tokens(nlp):
    doc = nlp("a chain-link fence")
    assert [token.text for token in words.split_hyphenated(doc[3])] == ["chain", "-", "link"]
    assert [token.text for token in words.split_hyphenated(doc[4])] == ["fence"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("the Red dogs", "the red dog"), ("jeans", "jeans"), ("black-and-white cows", "black-and-white cow")],
)
def test_a_name_ends_in_its_lemma(nlp, text, name):
    assert words.join_name(list(nlp(text))) == name


def test_a_verb_takes_its_particle_along_unless_a_preposition_has_it(nlp):
    verb, particle = nlp("a boy is held up by his father")[3:5]
    assert words.label_verb(verb) == ("hold up", [verb, particle])
    assert words.label_verb(verb, [particle]) == ("hold", [verb])


def test_a_lemma_of_another_verb_is_put_right(nlp):
    assert words.label_verb(nlp("a man is lying on a bed")[3])[0] == "lay"
