"""Graphs are read off scores that are made by hand."""

import pytest
import torch

from parsers.gold import list_triples
from parsers.neural.decode import MAX_NODES, Decoder
from parsers.neural.network import ROLES, GraphScores
from parsers.neural.tokenizer import tokenize
from parsers.neural.vocabulary import Vocabulary


def scores_of(length: int) -> GraphScores:
    """Of one caption of which nothing is said."""
    never = torch.full((1, length, length), -20.0)
    labels = torch.zeros(1, length, 1), torch.zeros(1, length, 3, 1)
    return GraphScores(torch.full((1, length, len(ROLES)), -20.0), *(never.clone() for _ in range(5)), *labels)


def test_decoding_never_joins_a_word_with_itself(network):
    scores = network.score([tokenize("a b c d")])
    everything = type(scores)(*(torch.ones_like(tensor) for tensor in scores))
    (graph,) = Decoder(network.vocabulary)(["a b c d"], [tokenize("a b c d")], everything)
    assert len(graph.objects) == 4
    assert all(relation.subject != relation.object for relation in graph.relations)


@pytest.mark.parametrize(
    ("chances", "nouns"),
    [((0.4, 0.45), ["plate"]), ((0.2, 0.25), []), ((0.6, 0.7), ["cup", "plate"]), ((0.1, 0.6), ["plate"])],
)
def test_what_surely_exists_goes_to_its_likeliest_noun(chances, nouns):
    caption = "red cup plate on table"
    scores = scores_of(5)
    scores.roles[0, [1, 2, 4], 0] = 1
    scores.attributes[0, 0, 1:3] = scores.anchor_subject[0, 3, 1:3] = torch.tensor(chances).logit()
    scores.anchor_object[0, 3, 4] = 0
    scores.subject_object[0, 1:3, 4] = 0
    (graph,) = Decoder(Vocabulary(("",), ("-0+",), ("",), 0))([caption], [tokenize(caption)], scores)
    assert [graph.objects[attribute.object].lemma for attribute in graph.attributes] == nouns
    assert [graph.objects[relation.subject].lemma for relation in graph.relations] == nouns


def test_a_rest_of_a_label_needs_a_first_word():
    scores = scores_of(2)
    scores.roles[0, :, 0] = 1
    scores.anchor_subject[0, 1, 0] = scores.anchor_object[0, 1, 1] = scores.subject_object[0, 0, 1] = 1
    for name, relations in (("have", 1), ("* on", 0)):
        (graph,) = Decoder(Vocabulary(("",), ("-0+",), (name,), 0))(["car tire"], [tokenize("car tire")], scores)
        assert len(graph.relations) == relations


@pytest.mark.parametrize("length", [MAX_NODES, MAX_NODES + 30])
def test_relations_are_found_in_long_texts(length):
    scores = scores_of(length)
    planted = {(3, 1, 5), (70, 60, 80), (length - 2, length - 9, length - 1)}
    for anchor, subject, object_ in planted:
        scores.anchor_subject[0, anchor, subject] = scores.anchor_object[0, anchor, object_] = 1
        scores.subject_object[0, subject, object_] = 1
    caption = " ".join(f"w{i}" for i in range(length))
    (graph,) = Decoder(Vocabulary(("",), ("-0+",), ("",), 0))([caption], [tokenize(caption)], scores)
    names = [thing.lemma for thing in graph.objects]
    assert {(r.lemma, names[r.subject], names[r.object]) for r in graph.relations} == {
        tuple(f"w{i}" for i in triple) for triple in planted
    }


@pytest.mark.parametrize(
    ("caption", "label"),
    [
        ("ball left of cube", "at the left of"),
        ("ball right of cube", "on the right side of"),
        ("ball top of cube", "top of"),
    ],
)
def test_a_side_is_the_one_that_the_caption_names(caption, label):
    scores = scores_of(4)
    scores.roles[0, [0, 3], 0] = 1
    scores.anchor_subject[0, 2, 0] = scores.anchor_object[0, 2, 3] = scores.subject_object[0, 0, 3] = 1
    scores.relation_words[0, 2, 1] = 1
    labels = Vocabulary(("",), ("-0+",), ("", "at the left of", "on the right side of"), 0)
    odds = torch.tensor([0.0, 2.0, 1.0]).expand(1, 4, 3)
    (graph,) = Decoder(labels)([caption], [tokenize(caption)], scores._replace(relation_labels=odds))
    assert [relation.lemma for relation in graph.relations] == [label]


def test_of_is_have_only_alone():
    labels = Vocabulary(("",), ("-0+", "=have"), ("",), 0)
    for caption, words, label in (("ball right of cube", [1], "right of"), ("leg of man", [], "have")):
        length = len(caption.split())
        scores = scores_of(length)
        of, last = length - 2, length - 1
        scores.anchor_subject[0, of, 0] = scores.anchor_object[0, of, last] = scores.subject_object[0, 0, last] = 1
        scores.relation_words[0, of, words] = 1
        edits = torch.zeros(1, length, 3, 2)
        edits[0, of, 2, 1] = 1
        (graph,) = Decoder(labels)([caption], [tokenize(caption)], scores._replace(edits=edits))
        assert [relation.lemma for relation in graph.relations] == [label]


def test_the_example_of_the_decoder():
    scores = scores_of(4)
    scores.roles[0, 1, 0], scores.roles[0, 3, 0] = 3, 2
    scores.attributes[0, 0, 1] = 2
    scores.anchor_subject[0, 2, 1], scores.anchor_object[0, 2, 3], scores.subject_object[0, 1, 3] = 1.5, 1, 0.5
    caption = "red cup on table"
    (graph,) = Decoder(Vocabulary(("",), ("-0+",), ("",), 0))([caption], [tokenize(caption)], scores)
    assert list_triples(graph) == (("cup", "is", "red"), ("cup", "on", "table"))
