"""What captions deny, compounds, verbs and the number of objects, in the graphs of the parsers."""

import re

import pytest

import parsers
from parsers.corrections import correct
from parsers.graph import Object, SceneGraph, Span


@pytest.fixture(scope="module", params=["neural", "dependency"])
def read(request):
    parser = parsers.get(request.param)

    def read(caption):
        (graph,) = parser.parse([caption])
        names = [thing.lemma for thing in graph.objects]
        attributes = {(names[a.object], a.lemma) for a in graph.attributes}
        return names, attributes, {(names[r.subject], r.lemma, names[r.object]) for r in graph.relations}

    return read


@pytest.mark.parametrize(
    ("caption", "denied"),
    [
        ("there is no car on the street", "car"),
        ("a street with no red car", "car"),
        ("no people are on the beach", "people"),
        ("none of the dogs wear a hat", "dog dogs hat none"),
        ("a man without a hat on a beach", "hat"),
        ("a street without any cars", "car cars"),
        ("no cup on a table", "cup"),
        ("nobody on the beach", "nobody"),
        ("a room that doesn't have a window", "window"),
        ("a table not covered with a cloth", "cloth"),
    ],
)
def test_what_is_denied_is_not_in_the_graph(read, caption, denied):
    names, _, _ = read(caption)
    assert not set(denied.split()) & set(names)
    kept = {"street", "beach", "room", "table", "man"} & set(caption.split())
    assert kept <= set(names)


def test_a_denied_property_or_action_is_not_in_the_graph(read):
    assert read("the dog is not black")[1] == set()
    names, _, relations = read("a man who is not riding the horse")
    assert {"man", "horse"} <= set(names)
    assert not any("ride" in relation for _, relation, _ in relations)


@pytest.mark.parametrize("caption", ["a no parking sign on a pole", "a knot in a rope", "the notebook on a table"])
def test_names_deny_nothing(caption):
    last = [Span(match.start(), match.end()) for match in re.finditer(r"\w+", caption)]
    things = tuple(Object(caption[span.start : span.end], span) for span in last)
    assert correct(SceneGraph(caption, things)).objects == things


@pytest.mark.parametrize("caption", ["an eye-catching dress", "a woman in an eye-catching red dress"])
def test_a_compound_is_one_attribute(read, caption):
    names, attributes, relations = read(caption)
    assert ("dress", "eye-catching") in attributes
    assert "eye" not in names
    assert not any("catch" in relation for _, relation, _ in relations)


@pytest.mark.parametrize(
    ("caption", "verb"),
    [
        ("a man posed on a bench", "pose on"),
        ("a train passes a station", "pass"),
        ("a man crosses a street", "cross"),
        ("a sun rising over a hill", "rise over"),
        ("a book laid on a table", "lay on"),
        ("a cart overloaded with hay", "overload with"),
        ("a man tying a tie", "tie"),
    ],
)
def test_relations_are_called_by_verbs(read, caption, verb):
    assert verb in {relation for _, relation, _ in read(caption)[2]}


@pytest.mark.parametrize(
    "caption", ["two black dogs", "two planes in the sky", "three motorcycles", "two jets fly", "hot dogs on a plate"]
)
def test_objects_of_the_neural_parser_keep_their_number(caption):
    (graph,) = parsers.get("neural").parse([caption])
    plural = next(word for word in caption.split() if word.endswith("s"))
    assert any(thing.lemma.split()[-1] == plural for thing in graph.objects)
