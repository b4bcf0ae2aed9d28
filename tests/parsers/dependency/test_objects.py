"""Which nouns of a caption are objects, and which objects a noun stands for."""

import pytest


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "a red fire hydrant on the street",
            "fire hydrant | street",
            "fire hydrant: red",
            "fire hydrant, on, street [on]",
        ),
        (
            "a left hand holding a hot dog",
            "left hand | hot dog",
            "",
            "left hand, hold, hot dog [holding]",
        ),
        (
            "a train with no windows",
            "train",
            "",
            "",
        ),
        (
            "he is looking at it",
            "",
            "",
            "",
        ),
    ],
)
def test_names_are_found_and_other_nouns_are_not(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "a photo of a man riding a horse",
            "man | horse",
            "",
            "man, ride, horse [riding]",
        ),
        (
            "A close up of a pizza on a table.",
            "pizza | table",
            "",
            "pizza, on, table [on]",
        ),
        (
            "a couple of dogs and a cat in the snow",
            "dog | cat | snow",
            "",
            "dog, in, snow [in] | cat, in, snow [in]",
        ),
        (
            "there is a bird in the tree",
            "bird | tree",
            "",
            "bird, in, tree [in]",
        ),
        (
            "a group of people standing on a beach",
            "people | beach",
            "people: group of",
            "people, stand on, beach [standing on]",
        ),
        (
            "a slice of pizza on a plate",
            "pizza | plate",
            "pizza: slice",
            "pizza, on, plate [on]",
        ),
        (
            "a plate of food",
            "plate | food",
            "",
            "food, on, plate [of]",
        ),
        (
            "a glass of red wine",
            "glass | wine",
            "wine: red",
            "wine, in, glass [of]",
        ),
        (
            "a painting of a cat on the wall",
            "painting | cat | wall",
            "",
            "painting, depict, cat [of] | cat, on, wall [on]",
        ),
    ],
)
def test_wrappers_hand_their_role_to_what_they_wrap(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)
