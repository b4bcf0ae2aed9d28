"""A scene graph is either valid or not built."""

import json

import pytest

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span, list_runs

CAPTION = "a brown dog covered in snow"
DOG, SNOW = Object("dog", Span(8, 11)), Object("snow", Span(23, 27))
BROWN = Attribute(0, "brown", Span(2, 7))
COVER = Relation(1, 0, "cover", (Span(12, 22),))


def test_a_graph_holds_what_it_was_given():
    graph = SceneGraph(CAPTION, (DOG, SNOW), (BROWN,), (COVER,))
    assert [CAPTION[node.span.start : node.span.end] for node in (*graph.objects, *graph.attributes)] == [
        "dog",
        "snow",
        "brown",
    ]
    assert graph == SceneGraph(CAPTION, (DOG, SNOW), (BROWN,), (COVER,))
    assert len({graph, SceneGraph(CAPTION, (DOG, SNOW), (BROWN,), (COVER,))}) == 1


@pytest.mark.parametrize("caption", ["", "a dog", "\0", "🐶"])
def test_any_caption_may_have_an_empty_graph(caption):
    assert SceneGraph(caption).objects == ()


def test_a_relation_may_have_several_spans_or_none():
    spans = (Span(12, 19), Span(20, 22))
    assert SceneGraph(CAPTION, (DOG, SNOW), (), (Relation(1, 0, "cover", spans),)).relations[0].spans == spans
    assert SceneGraph(CAPTION, (DOG, SNOW), (), (Relation(1, 0, "have", ()),)).relations[0].spans == ()


@pytest.mark.parametrize("span", [Span(8, 8), Span(11, 8), Span(-1, 3), Span(23, 28), Span(50, 60)], ids=str)
def test_a_span_that_is_empty_or_outside_is_refused(span):
    for nodes in (
        {"objects": (Object("dog", span),)},
        {"objects": (DOG,), "attributes": (Attribute(0, "brown", span),)},
        {"objects": (DOG, SNOW), "relations": (Relation(0, 1, "in", (span,)),)},
    ):
        with pytest.raises(ValueError, match="empty, out of order or outside the caption's 27 characters"):
            SceneGraph(CAPTION, **nodes)


@pytest.mark.parametrize("spans", [(Span(20, 22), Span(12, 19)), (Span(12, 19), Span(18, 22))], ids=str)
def test_the_spans_of_a_relation_are_in_order_and_apart(spans):
    with pytest.raises(ValueError, match="out of order"):
        SceneGraph(CAPTION, (DOG, SNOW), (), (Relation(1, 0, "cover", spans),))


@pytest.mark.parametrize("index", [-1, 1, 7])
def test_an_index_that_names_no_object_is_refused(index):
    with pytest.raises(ValueError, match=f"refers to object {index}, but the graph has 1 objects"):
        SceneGraph(CAPTION, (DOG,), (Attribute(index, "brown", Span(2, 7)),))
    with pytest.raises(ValueError, match=f"refers to object {index}, but the graph has 1 objects"):
        SceneGraph(CAPTION, (DOG,), (), (Relation(0, index, "cover", ()),))


def test_a_relation_of_an_object_with_itself_is_refused():
    with pytest.raises(ValueError, match="joins an object with itself"):
        SceneGraph(CAPTION, (DOG,), (), (Relation(0, 0, "cover", ()),))


def test_an_empty_label_is_refused():
    with pytest.raises(ValueError, match="empty lemma"):
        SceneGraph(CAPTION, (Object("", Span(8, 11)),))
    with pytest.raises(ValueError, match="empty lemma"):
        SceneGraph(CAPTION, (DOG, SNOW), (), (Relation(0, 1, "", ()),))


def test_dict_round_trip_through_json():
    graph = SceneGraph(CAPTION, (DOG, SNOW), (BROWN,), (COVER, Relation(1, 0, "have", ())))
    plain = json.loads(json.dumps(graph.to_dict()))
    assert plain["objects"][0] == {"lemma": "dog", "start": 8, "end": 11}
    assert plain["relations"][0] == {
        "subject": 1,
        "object": 0,
        "lemma": "cover",
        "spans": [{"start": 12, "end": 22}],
    }
    assert SceneGraph.from_dict(CAPTION, plain) == graph


def test_from_dict_checks_the_graph_and_its_fields():
    plain = SceneGraph(CAPTION, (DOG, SNOW), (BROWN,), (COVER,)).to_dict()
    with pytest.raises(ValueError, match="outside the caption's 5 characters"):
        SceneGraph.from_dict("a dog", plain)
    with pytest.raises(KeyError, match="relations"):
        SceneGraph.from_dict(CAPTION, {"objects": [], "attributes": []})


@pytest.mark.parametrize(
    ("places", "runs"),
    [
        ([], []),
        ([4], [(4, 4)]),
        ([2, 3, 5], [(2, 3), (5, 5)]),
        ([0, 1, 2], [(0, 2)]),
        ([1, 3, 5], [(1, 1), (3, 3), (5, 5)]),
    ],
)
def test_consecutive_numbers_are_one_run(places, runs):
    assert list_runs(places) == runs
