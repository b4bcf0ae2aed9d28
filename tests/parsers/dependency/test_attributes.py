"""Which words of a caption are attributes, and of which objects."""

import pytest


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "the brown dog is big and wet",
            "dog",
            "dog: brown | dog: big | dog: wet",
            "",
        ),
        (
            "cows that are brown",
            "cow",
            "cow: brown",
            "",
        ),
        (
            "five boats tied to a dock",
            "boat | dock",
            "boat: 5",
            "boat, tie to, dock [tied to]",
        ),
        (
            "black and white cows in a dark green field",
            "cow | field",
            "cow: black | cow: white | field: dark green",
            "cow, in, field [in]",
        ),
        (
            "a brick wall with a wood table and a chain-link fence",
            "wall | table | fence",
            "wall: brick | table: wooden | fence: chain-link",
            "wall, with, table [with] | wall, with, fence [with]",
        ),
        (
            "a blond haired girl is smiling",
            "girl",
            "girl: blond haired | girl: smiling",
            "",
        ),
        (
            "a double-decker bus driving down the road",
            "bus | road",
            "bus: double-decker",
            "bus, drive down, road [driving down]",
        ),
        (
            "a man walking",
            "man",
            "man: walking",
            "",
        ),
        (
            "a one way sign next to a yellow fire hydrant",
            "sign | fire hydrant",
            "sign: one way | fire hydrant: yellow",
            "sign, next to, fire hydrant [next to]",
        ),
    ],
)
def test_attributes(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)
