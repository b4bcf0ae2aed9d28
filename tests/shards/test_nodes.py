"""The nodes of scene graphs in the order in which shards number them."""

import numpy as np

from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from shards.nodes import list_nodes, list_spans, number_nodes
from tests.shards.samples import SAMPLES, TEXT

RED_HAT = SceneGraph("red hat", (Object("hat", Span(4, 7)),), (Attribute(0, "red", Span(0, 3)),))
MAN_ON_MAT = SceneGraph(
    "man on mat", (Object("man", Span(0, 3)), Object("mat", Span(7, 10))), (), (Relation(0, 1, "on", (Span(4, 6),)),)
)


def test_objects_come_before_attributes_and_relations():
    graph = SAMPLES[0].captions[0].graph
    assert graph.caption == TEXT
    found = [
        (node.kind, node.lemma, [TEXT[s.start : s.end] for s in node.spans], node.arguments)
        for node in list_nodes(graph)
    ]
    assert found == [
        (0, "hat", ["hat"], ()),
        (0, "man", ["man"], ()),
        (1, "red", ["red"], (0,)),
        (2, "on", ["on"], (0, 1)),
    ]


def test_an_object_has_the_words_of_all_its_mentions():
    text = "it is a dog, the animal"
    graph = SceneGraph(text, (Object("dog", Span(8, 11), (Span(0, 2), Span(17, 23))),))
    (node,) = list_nodes(graph)
    assert [text[span.start : span.end] for span in node.spans] == ["it", "dog", "animal"]


def test_the_nodes_of_all_captions_are_numbered_one_after_the_other():
    kinds, captions, arguments = number_nodes([RED_HAT, MAN_ON_MAT])
    assert kinds.tolist() == [0, 1, 0, 0, 2]
    assert captions.tolist() == [0, 0, 1, 1, 1]
    assert arguments.tolist() == [[-1, -1], [0, -1], [-1, -1], [-1, -1], [2, 3]]


def test_captions_without_nodes_have_none():
    kinds, captions, arguments = number_nodes([SceneGraph("so it is"), SceneGraph("")])
    assert (kinds.shape, captions.shape, arguments.shape) == ((0,), (0,), (0, 2))


def test_numbers_are_those_of_the_masks():
    for sample in SAMPLES:
        found = number_nodes([caption.graph for caption in sample.captions])
        for name, array in zip(("node_kind", "node_caption", "node_args"), found, strict=True):
            np.testing.assert_array_equal(array, getattr(sample.masks, name))


def test_attributes_are_shown_over_relations_over_objects():
    everything = Span(0, 10)
    graph = SceneGraph(
        "man on mat",
        (Object("man", everything), Object("mat", everything)),
        (Attribute(1, "flat", everything),),
        (Relation(0, 1, "on", (Span(0, 3), Span(4, 10))), Relation(1, 0, "under", ())),
    )
    assert [number for number, _ in list_spans(graph)] == [0, 1, 3, 3, 2]
