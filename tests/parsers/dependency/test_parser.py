"""The parser as a whole: captions of the toy world, spans, limits, models."""

import pytest

from parsers.dependency.parser import DependencyParser
from parsers.tokens import MAX_CHARACTERS


@pytest.mark.parametrize(
    ("caption", "objects", "attributes", "relations"),
    [
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
    ],
)
def test_captions_of_the_toy_world(read, caption, objects, attributes, relations):
    assert read(caption) == (objects, attributes, relations)


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
    caption = "a dog on a mat. ".ljust(MAX_CHARACTERS) + "a cat"
    assert [node.lemma for node in dependency.parse([caption])[0].objects] == ["dog", "mat"]


def test_a_model_that_is_not_installed_is_named():
    with pytest.raises(OSError, match="no_such_model"):
        DependencyParser(spacy_model="no_such_model")
