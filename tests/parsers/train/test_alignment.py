"""Gold triples are tied to the words of their caption."""

from pathlib import Path

import pytest

from parsers.gold import read_gold
from parsers.graph import Attribute, Object, Relation, SceneGraph, Span
from parsers.neural.tokenizer import tokenize
from parsers.train.alignment import AlignedRelation, Phrase, align_spans

FACTUAL = Path(__file__).resolve().parents[4] / "shared/data/scene_graphs/factual"


@pytest.mark.parametrize(
    ("caption", "triples", "objects", "attributes", "relations"),
    [
        (
            "two dogs sitting on a red mat",
            [("dogs", "is", "2"), ("dogs", "v:sit on", "mat"), ("mat", "is", "red")],
            {"dogs", "mat"},
            {("two", "dogs"), ("red", "mat")},
            {("dogs", "sitting on", "mat", "sit on")},
        ),
        ("man's hat", [("man", "v:have", "hat")], {"man", "hat"}, set(), {("man", "'s", "hat", "have")}),
        ("the leg of a man", [("man", "v:have", "leg")], {"man", "leg"}, set(), {("man", "of", "leg", "have")}),
        ("a car tire", [("car", "v:have", "tire")], {"car", "tire"}, set(), {("car", "", "tire", "have")}),
        (
            "a tree by a tree trunk",
            [("tree", "by", "tree trunk")],
            {"tree", "tree trunk"},
            set(),
            {("tree", "by", "trunk", "by")},
        ),
        (
            "a tree next to a tree",
            [("tree", "next to", "tree:1")],
            {"tree"},
            set(),
            {("tree", "next to", "tree", "next to")},
        ),
        (
            "a womann in a yelow hat",
            [("woman", "in", "hat"), ("hat", "is", "yellow")],
            {"womann", "hat"},
            {("yelow", "hat")},
            {("womann", "in", "hat", "in")},
        ),
    ],
)
def test_nodes_are_tied_to_their_words(align, caption, triples, objects, attributes, relations):
    words = tokenize(caption)
    graph = align(words, triples)
    forms = words.forms
    text = lambda phrase: " ".join(forms[phrase.first : phrase.last + 1])  # noqa: E731
    assert objects <= {text(phrase) for phrase, _ in graph.objects}
    assert {(text(a.phrase), forms[a.object]) for a in graph.attributes} == attributes
    found = {(forms[r.subject], " ".join(forms[i] for i in r.words), forms[r.object], r.label) for r in graph.relations}
    assert found == relations
    assert not graph.missing


@pytest.mark.parametrize(("caption", "name"), [("a cell phone", "cellphone"), ("a wetsuit", "wet suit")])
def test_a_name_is_found_however_it_is_cut_into_words(align, caption, name):
    words = tokenize(caption)
    ((phrase, found),) = align(words, [(name, "is", "red")]).objects
    assert found == name
    assert words.forms[phrase.first : phrase.last + 1] == caption.split()[1:]


def test_what_is_not_in_the_caption_is_missing(align):
    graph = align(tokenize("a dog"), [("dog", "on", "sofa"), ("dog", "is", "brown")])
    assert graph.objects == ((Phrase(1, 1), "dog"),)
    assert set(graph.missing) == {("dog", "on", "sofa"), ("dog", "is", "brown")}


@pytest.mark.skipif(not FACTUAL.exists(), reason="the FACTUAL files are not here")
def test_nearly_all_of_factual_is_tied_to_words(align):
    gold = read_gold(FACTUAL / "dev_id.csv")
    aligned = [align(tokenize(caption.caption), caption.triples) for caption in gold]
    assert sum(len(graph.missing) for graph in aligned) < 0.04 * sum(len(caption.triples) for caption in gold)


def test_the_example_of_the_aligner(align):
    triples = [("dogs", "is", "2"), ("dogs", "v:sit on", "mat"), ("mat", "is", "red")]
    graph = align(tokenize("two dogs sitting on a red mat"), triples)
    assert graph.objects == ((Phrase(1, 1), "dogs"), (Phrase(6, 6), "mat"))
    assert [(a.phrase, a.object) for a in graph.attributes] == [(Phrase(0, 0), 1), (Phrase(5, 5), 6)]
    assert graph.relations == (AlignedRelation(3, (2, 3), 1, 6, "sit on"),)


def test_a_graph_with_spans_becomes_one_with_words():
    caption = "a red fire hydrant on the street"
    objects = (Object("fire hydrant", Span(6, 18)), Object("street", Span(26, 32)), Object("tree", Span(3, 4)))
    relations = (Relation(0, 1, "on", (Span(19, 21),)), Relation(1, 0, "have", ()))
    graph = align_spans(tokenize(caption), SceneGraph(caption, objects, (Attribute(0, "red", Span(2, 5)),), relations))
    assert graph.objects == ((Phrase(2, 3), "fire hydrant"), (Phrase(6, 6), "street"))
    assert [(a.phrase, a.object, a.label) for a in graph.attributes] == [(Phrase(1, 1), 3, "red")]
    assert graph.relations == (AlignedRelation(4, (4,), 3, 6, "on"), AlignedRelation(3, (), 6, 3, "have"))
