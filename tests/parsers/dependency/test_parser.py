"""Which graph the rules make of which caption.

A case is the caption, its objects, its attributes ("object: attribute") and its relations ("subject, label, object
[words]", with an ellipsis where the words have others between them).
"""

import pytest

CASES = [
    # names and attributes
    (
        "a red fire hydrant on the street",
        "fire hydrant | street",
        "fire hydrant: red",
        "fire hydrant, on, street [on]",
    ),
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
        "a left hand holding a hot dog",
        "left hand | hot dog",
        "",
        "left hand, hold, hot dog [holding]",
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
    (
        "a one way sign next to a yellow fire hydrant",
        "sign | fire hydrant",
        "sign: one way | fire hydrant: yellow",
        "sign, next to, fire hydrant [next to]",
    ),
    # wrappers and portions
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
    # verbs
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
    # passives
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
    # phrasal prepositions
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
    # relative clauses
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
    # belonging
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
    # the toy world
    (
        "The large red metal cube is to the left of two small blue rubber balls.",
        "cube | ball",
        "cube: large | cube: red | cube: metal | ball: 2 | ball: small | ball: blue | ball: rubber",
        "cube, at the left of, ball [to the left of]",
    ),
    (
        "A green cone that is yellow and big is covered by a sheet.",
        "cone | sheet",
        "cone: green | cone: yellow | cone: big",
        "sheet, cover, cone [covered by]",
    ),
    (
        "A big shiny purple cylinder stands in front of the ring.",
        "cylinder | ring",
        "cylinder: big | cylinder: shiny | cylinder: purple",
        "cylinder, stand in front of, ring [stands in front of]",
    ),
    (
        "There is a small cyan cube next to the orange pyramid.",
        "cube | pyramid",
        "cube: small | cube: cyan | pyramid: orange",
        "cube, next to, pyramid [next to]",
    ),
    (
        "a tiny wooden star is held by a red robot",
        "star | robot",
        "star: tiny | star: wooden | robot: red",
        "robot, hold, star [held by]",
    ),
    (
        "A red robot that holds a star stands behind the pyramid.",
        "robot | star | pyramid",
        "robot: red",
        "robot, hold, star [holds] | robot, stand behind, pyramid [stands behind]",
    ),
    (
        "The small rubber cylinder is orange and shiny.",
        "cylinder",
        "cylinder: small | cylinder: rubber | cylinder: orange | cylinder: shiny",
        "",
    ),
]


@pytest.mark.parametrize(("caption", "objects", "attributes", "relations"), CASES, ids=[case[0] for case in CASES])
def test_graph(dependency, caption, objects, attributes, relations):
    (graph,) = dependency.parse([caption])
    names = [node.lemma for node in graph.objects]
    assert " | ".join(names) == objects
    assert " | ".join(f"{names[node.object]}: {node.lemma}" for node in graph.attributes) == attributes
    assert (
        " | ".join(
            f"{names[r.subject]}, {r.lemma}, {names[r.object]} [{'…'.join(caption[s.start : s.end] for s in r.spans)}]"
            for r in graph.relations
        )
        == relations
    )


def test_spans_of_names_and_attributes(dependency):
    (graph,) = dependency.parse(["Two t-shirts and a dark green fire hydrant near a chain-link fence"])
    words = [graph.caption[node.span.start : node.span.end] for node in (*graph.objects, *graph.attributes)]
    assert words == ["t-shirts", "fire hydrant", "fence", "Two", "dark green", "chain-link"]


@pytest.mark.parametrize("caption", ["sign on a post", "Sign on a post", "a sign on a post", " sign on a post"])
def test_an_article_put_in_front_moves_no_span(dependency, caption):
    (graph,) = dependency.parse([caption])
    assert [caption[node.span.start : node.span.end].lower() for node in graph.objects] == ["sign", "post"]


def test_every_object_has_words_of_its_own(dependency):
    (graph,) = dependency.parse(["a black dog next to a white dog and two dogs"])
    assert [node.lemma for node in graph.objects] == ["dog", "dog", "dog"]
    assert len({node.span for node in graph.objects}) == 3


def test_text_beyond_the_limit_is_left_unread(dependency):
    from parsers.tokens import MAX_CHARACTERS

    caption = "a dog on a mat. ".ljust(MAX_CHARACTERS) + "a cat"
    assert [node.lemma for node in dependency.parse([caption])[0].objects] == ["dog", "mat"]


def test_a_model_that_is_not_installed_is_named():
    from parsers.dependency.parser import DependencyParser

    with pytest.raises(OSError, match="no_such_model"):
        DependencyParser(spacy_model="no_such_model")
