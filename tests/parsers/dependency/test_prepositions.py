"""Prepositions of several words."""

import pytest

from parsers.dependency.prepositions import find_prepositions


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "a man stands in front of a car",
            "man | car",
            "",
            "man, stand in front of, car [stands in front of]",
        ),
        (
            "the ball is to the left of a cube",
            "ball | cube",
            "",
            "ball, at the left of, cube [to the left of]",
        ),
        (
            "purple cube left of a small ball",
            "cube | ball",
            "cube: purple | ball: small",
            "cube, at the left of, ball [left of]",
        ),
        (
            "white writing on the side of a boat",
            "writing | boat",
            "writing: white",
            "writing, on side of, boat [on the side of]",
        ),
        (
            "a bird next to two cats",
            "bird | cat",
            "cat: 2",
            "bird, next to, cat [next to]",
        ),
        (
            "a cup on top of the table",
            "cup | table",
            "",
            "cup, on top of, table [on top of]",
        ),
        (
            "trees on both sides of the road",
            "tree | road",
            "",
            "tree, on both sides of, road [on both sides of]",
        ),
        (
            "two dogs and three cats next to each other",
            "dog | cat",
            "dog: 2 | cat: 3",
            "dog, next to, cat [next to]",
        ),
        (
            "a ring between the cube and the cone",
            "ring | cube | cone",
            "",
            "ring, between, cube [between] | ring, between, cone [between]",
        ),
        (
            "a truck full of people",
            "truck | people",
            "",
            "truck, fill with, people [full of]",
        ),
    ],
)
def test_phrases_are_one_relation(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


def test_both_sides_of_a_phrase_are_found(nlp):
    (found,) = find_prepositions(nlp("a man stands in front of a car"))
    assert [word.text for word in found.words] == ["in", "front", "of"]
    assert found.lemma == "in front of"
    assert found.governor.text == "stands"
    assert [noun.text for noun in found.nouns] == ["car"]


def test_pronouns_complete_a_preposition_and_name_nothing(nlp):
    with_, in_ = find_prepositions(nlp("a bowl with flowers in it"))
    assert [word.text for word in with_.complements()] == [noun.text for noun in with_.nouns] == ["flowers"]
    assert [word.text for word in in_.complements()] == ["it"]
    assert [noun.text for noun in in_.nouns] == ["it"]
