"""A scene graph is either valid or not built."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span, list_runs
from tests.parsers.graphs import any_graphs, gold_graphs

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


def test_what_is_not_the_default_is_plain_data_too():
    caption = "a brown dog sleeps, and it snores on snow"
    dog = Object("dog", Span(8, 11), (Span(24, 26),), 0.75)
    graph = SceneGraph(caption, (dog, Object("snow", Span(37, 41))), (Attribute(0, "brown", Span(2, 7), 0.5),))
    plain = json.loads(json.dumps(graph.to_dict()))
    assert plain == {
        "objects": [
            {"lemma": "dog", "start": 8, "end": 11, "mentions": [{"start": 24, "end": 26}], "visible": 0.75},
            {"lemma": "snow", "start": 37, "end": 41},
        ],
        "attributes": [{"object": 0, "lemma": "brown", "start": 2, "end": 7, "visible": 0.5}],
        "relations": [],
    }
    assert SceneGraph.from_dict(caption, plain) == graph


@given(any_graphs())
def test_any_graph_comes_back_from_json(graph):
    assert SceneGraph.from_dict(graph.caption, json.loads(json.dumps(graph.to_dict()))) == graph


def test_scores_are_stored_with_four_decimals():
    graph = SceneGraph("a dog", (Object("dog", Span(2, 5), visible=0.123456),))
    plain = graph.to_dict()
    assert plain["objects"][0]["visible"] == 0.1235
    assert SceneGraph.from_dict("a dog", plain).to_dict() == plain


def test_the_mentions_of_an_object_are_listed_in_the_order_of_the_caption():
    it, dog, animal = Span(0, 2), Span(9, 12), Span(20, 26)
    thing = Object("dog", dog, (it, animal))
    assert thing.spans == (it, dog, animal)
    assert DOG.spans == (DOG.span,)
    assert SceneGraph("It is a  dog, a nice animal.", (thing,)).objects == (thing,)


@pytest.mark.parametrize(
    "mentions",
    [
        (Span(20, 26), Span(0, 2)),
        (Span(0, 2), Span(1, 3)),
        (Span(10, 11),),
        (Span(9, 12),),
        (Span(3, 3),),
        (Span(20, 99),),
    ],
    ids=str,
)
def test_mentions_that_are_out_of_order_or_overlap_are_refused(mentions):
    with pytest.raises(ValueError, match="empty, out of order or outside the caption's 28 characters"):
        SceneGraph("It is a  dog, a nice animal.", (Object("dog", Span(9, 12), mentions),))


@pytest.mark.parametrize("visible", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_score_is_from_0_to_1(visible):
    for nodes in (
        {"objects": (Object("dog", DOG.span, visible=visible),)},
        {"objects": (DOG,), "attributes": (Attribute(0, "brown", Span(2, 7), visible),)},
        {"objects": (DOG, SNOW), "relations": (Relation(0, 1, "in", (), visible),)},
    ):
        with pytest.raises(ValueError, match="expected a number from 0 to 1"):
            SceneGraph(CAPTION, **nodes)


def test_what_is_hardly_visible_is_left_out_with_all_that_is_said_of_it():
    caption = "a calm man with a hat brings a great sense of calm to it"
    man, sense, hat = (
        Object("man", Span(7, 10)),
        Object("sense", Span(37, 42), visible=0.2),
        Object("hat", Span(18, 21)),
    )
    graph = SceneGraph(
        caption,
        (man, sense, hat),
        (
            Attribute(0, "calm", Span(2, 6), 0.49),
            Attribute(1, "great", Span(31, 36)),
            Attribute(2, "a", Span(16, 17), 0.5),
        ),
        (Relation(0, 2, "with", ()), Relation(0, 1, "bring", ()), Relation(2, 0, "on", (), 0.1)),
    )
    assert graph.keep_visible(0.5) == SceneGraph(
        caption, (man, hat), (Attribute(1, "a", Span(16, 17), 0.5),), (Relation(0, 1, "with", ()),)
    )
    assert graph.keep_visible(0) == graph


@given(any_graphs(), st.floats(0, 1))
def test_what_is_kept_is_what_is_visible_in_its_order(graph, least):
    kept = graph.keep_visible(least)
    assert kept.objects == tuple(o for o in graph.objects if o.visible >= least)
    # Objects may be equal, so nodes are compared with the places of their objects.
    place = [number for number, o in enumerate(graph.objects) if o.visible >= least]
    assert [(place[a.object], a.lemma, a.span) for a in kept.attributes] == [
        (a.object, a.lemma, a.span) for a in graph.attributes if a.visible >= least and a.object in place
    ]
    assert [(place[r.subject], place[r.object], r.spans) for r in kept.relations] == [
        (r.subject, r.object, r.spans)
        for r in graph.relations
        if r.visible >= least and {r.subject, r.object} <= set(place)
    ]


def test_the_objects_of_paragraphs_have_many_mentions():
    graphs = gold_graphs()
    assert len(graphs) == 102
    assert max(len(thing.spans) for graph in graphs for thing in graph.objects) == 9
    for graph in graphs:
        assert SceneGraph.from_dict(graph.caption, graph.to_dict()) == graph


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
