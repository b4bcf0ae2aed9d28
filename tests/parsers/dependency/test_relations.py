"""What verbs, possessives and "of" say about the objects of a caption."""

import pytest


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "a man wearing a blue hat sitting on a bench",
            "man | hat | bench",
            "hat: blue",
            "man, wear, hat [wearing] | man, sit on, bench [sitting on]",
        ),
        (
            "a man holding a cup and a phone",
            "man | cup | phone",
            "",
            "man, hold, cup [holding] | man, hold, phone [holding]",
        ),
        (
            "a woman sitting and holding an umbrella",
            "woman | umbrella",
            "woman: sitting",
            "woman, hold, umbrella [holding]",
        ),
        (
            "a man and a woman sitting on a bench",
            "man | woman | bench",
            "",
            "man, sit on, bench [sitting on] | woman, sit on, bench [sitting on]",
        ),
        (
            "a boy holding pizza",
            "boy | pizza",
            "",
            "boy, hold, pizza [holding]",
        ),
        (
            "a man playing frisbee with his dog",
            "man | frisbee | dog",
            "",
            "man, play, frisbee [playing] | man, play with, dog [playing…with]",
        ),
        (
            "a man holding a cup in his hand",
            "man | cup | hand",
            "",
            "man, hold, cup [holding] | cup, in, hand [in]",
        ),
        (
            "a boy throwing the ball to the batter",
            "boy | ball | batter",
            "",
            "boy, throw, ball [throwing] | boy, throw to, batter [throwing…to]",
        ),
        (
            "a leaf sticking out of the ground",
            "leaf | ground",
            "",
            "leaf, stick out of, ground [sticking out of]",
        ),
        (
            "a person in a blue jacket",
            "person | jacket",
            "jacket: blue",
            "person, wear, jacket [in]",
        ),
        (
            "a man in a black suit walking on the beach",
            "man | suit | beach",
            "suit: black",
            "man, wear, suit [in] | man, walk on, beach [walking on]",
        ),
        (
            "a player with glasses wearing shorts and pants",
            "player | glass | shorts | pants",
            "",
            "player, with, glass [with] | player, wear, shorts [wearing] | player, wear, pants [wearing]",
        ),
        (
            "sign on a post",
            "sign | post",
            "",
            "sign, on, post [on]",
        ),
        (
            "A polar bear swimming in water",
            "bear | water",
            "bear: polar",
            "bear, swim in, water [swimming in]",
        ),
    ],
)
def test_relations_of_verbs(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "the bench is covered with snow",
            "bench | snow",
            "",
            "snow, cover, bench [covered with]",
        ),
        (
            "the bench is covered in deep snow",
            "bench | snow",
            "snow: deep",
            "snow, cover, bench [covered in]",
        ),
        (
            "dirt covered ground",
            "dirt | ground",
            "",
            "dirt, cover, ground [covered]",
        ),
        (
            "a racket held by a tennis player",
            "racket | tennis player",
            "",
            "tennis player, hold, racket [held by]",
        ),
        (
            "a boy is held up by his father",
            "boy | father",
            "",
            "father, hold up, boy [held up by]",
        ),
        (
            "cars are parked by the building",
            "car | building",
            "",
            "car, park by, building [parked by]",
        ),
    ],
)
def test_relations_of_passives(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "a boy that is riding a skateboard",
            "boy | skateboard",
            "",
            "boy, ride, skateboard [riding]",
        ),
        (
            "the cup which is on the table is full",
            "cup | table",
            "cup: full",
            "cup, on, table [on]",
        ),
        (
            "the white pants the batter is wearing",
            "pants | batter",
            "pants: white",
            "batter, wear, pants [wearing]",
        ),
        (
            "green table the vases are on",
            "table | vase",
            "table: green",
            "vase, on, table [on]",
        ),
        (
            "a bowl with flowers in it",
            "bowl | flower",
            "",
            "flower, in, bowl [in]",
        ),
    ],
)
def test_relations_in_relative_clauses(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
        (
            "the man's hat is red",
            "man | hat",
            "hat: red",
            "man, have, hat []",
        ),
        (
            "the girl's dress and the boy's shoes",
            "girl | dress | boy | shoe",
            "",
            "girl, have, dress [] | boy, have, shoe []",
        ),
        (
            "the door of the house",
            "door | house",
            "",
            "house, have, door [of]",
        ),
        (
            "a field of grass",
            "field | grass",
            "",
            "field, have, grass [of]",
        ),
        (
            "a clock face on a tower",
            "clock | face | tower",
            "",
            "clock, have, face [] | face, on, tower [on]",
        ),
    ],
)
def test_belonging(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)
