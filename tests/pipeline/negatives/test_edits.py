"""What a caption and its graph become when words of it change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.graph import Span
from pipeline.negatives.edits import Change, Edit, apply_edit
from shards.schema import ATTRIBUTE, OBJECT
from tests.parsers.graphs import any_graphs
from tests.pipeline.negatives.captions import graph_of, span_of


def words_of(graph, spans):
    return [graph.caption[span.start : span.end] for span in spans]


def test_the_example_of_the_docstring():
    graph = graph_of("a cat on an old mat", ["cat", "mat"], [(1, "old")], [(0, "on", 1)])
    cat, old = span_of(graph.caption, "cat"), span_of(graph.caption, "old")
    changes = (
        Change(cat.start, cat.end, "owl", ((OBJECT, 0),), "owl"),
        Change(old.start, old.end, "new", ((ATTRIBUTE, 0),), "new"),
    )
    false = apply_edit(graph, Edit("swap_object", changes))
    assert false.graph.caption == "an owl on a new mat"
    assert words_of(false.graph, false.spans) == ["owl", "new"]
    assert [item.lemma for item in false.graph.objects] == ["owl", "mat"]
    assert words_of(false.graph, [item.span for item in false.graph.objects]) == ["owl", "mat"]
    assert false.graph.attributes[0].lemma == "new"
    assert words_of(false.graph, false.graph.relations[0].spans) == ["on"]


def test_words_are_put_in_before_an_object_and_become_its_attribute():
    graph = graph_of("An owl on two mats", ["owl", "mats"])
    place = span_of(graph.caption, "mats").start
    edit = Edit("add_attribute", (Change(place, place, "red", ((ATTRIBUTE, 0),), "red"),), 1)
    false = apply_edit(graph, edit)
    assert false.graph.caption == "An owl on two red mats"
    (attribute,) = false.graph.attributes
    assert (attribute.object, attribute.lemma, words_of(false.graph, [attribute.span])) == (1, "red", ["red"])
    assert words_of(false.graph, [item.span for item in false.graph.objects]) == ["owl", "mats"]


def test_an_article_before_added_words_is_put_right():
    graph = graph_of("AN OWL sleeps", ["OWL"])
    edit = Edit("add_attribute", (Change(3, 3, "wet", ((ATTRIBUTE, 0),), "wet"),), 0)
    assert apply_edit(graph, edit).graph.caption == "A wet OWL sleeps"


def test_changes_that_overlap_are_refused():
    with pytest.raises(ValueError, match="overlaps"):
        apply_edit(graph_of("a red dog", ["dog"]), Edit("swap_object", (Change(2, 9, "x"), Change(6, 9, "y"))))


@settings(max_examples=100, deadline=None)
@given(any_graphs().filter(lambda graph: graph.objects), st.data())
def test_unchanged_words_stay_under_their_nodes(graph, data):
    """Only the changed words and the articles before them differ, whatever the nodes cover."""
    number = data.draw(st.integers(0, len(graph.objects) - 1))
    span = graph.objects[number].span
    text = data.draw(st.sampled_from(["x", "long words here", "apple"]))
    change = Change(span.start, span.end, text, ((OBJECT, number),), "new")
    try:
        false = apply_edit(graph, Edit("replace_object", (change,)))
    except ValueError:  # a node would have no words left
        assert any(other != span and other.start >= span.start and other.end <= span.end for other in spans_of(graph))
        return
    assert words_of(false.graph, false.spans) == [text]
    assert false.graph.objects[number].lemma == "new"
    assert false.graph.caption.endswith(graph.caption[span.end :])
    for old, moved in zip(spans_of(graph), spans_of(false.graph), strict=True):
        if old.end <= span.start or old.start >= span.end:
            words = [
                ["a" if word == "an" else word for word in words_of(g, [s])[0].split()]
                for g, s in ((graph, old), (false.graph, moved))
            ]
            assert words[0] == words[1]


def spans_of(graph):
    nodes = [span for node in (*graph.objects, *graph.relations) for span in node.spans]
    return nodes + [attribute.span for attribute in graph.attributes]


def test_a_node_that_overlaps_a_change_keeps_its_words():
    graph = graph_of("a dog house", ["dog house"])
    false = apply_edit(graph, Edit("replace_object", (Change(2, 5, "cat", (), ""),)))
    assert false.graph.objects[0].span == Span(2, 11)
    assert false.graph.caption == "a cat house"
