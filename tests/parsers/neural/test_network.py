"""The scores of the network."""

import torch

from parsers.neural.network import KINDS, ROLES
from parsers.neural.tokenizer import tokenize


def test_scores_have_a_place_for_every_decision(network):
    scores = network.score([tokenize("a dog in a mat"), tokenize("two dogs on a mat")])
    shapes = {name: tuple(tensor.shape) for name, tensor in scores._asdict().items()}
    arcs = dict.fromkeys(
        ("attributes", "anchor_subject", "anchor_object", "subject_object", "relation_words"), (2, 5, 5)
    )
    vocabulary = network.vocabulary
    assert shapes == {
        "roles": (2, 5, len(ROLES)),
        **arcs,
        "relation_labels": (2, 5, len(vocabulary.relation_labels)),
        "edits": (2, 5, len(KINDS), len(vocabulary.edits)),
    }


def test_a_relation_is_the_sum_of_its_arcs(network):
    scores = network.score([tokenize("a dog in a mat")])
    anchor, subject, object_ = 2, 1, 4
    total = (
        scores.anchor_subject[0, anchor, subject]
        + scores.anchor_object[0, anchor, object_]
        + scores.subject_object[0, subject, object_]
    )
    torch.testing.assert_close(scores.relations()[0, anchor, subject, object_], total)


def test_a_caption_is_scored_alike_alone_and_beside_others(network):
    captions = [tokenize("a dog in a mat"), tokenize("two dogs on a mat")]
    for together, alone in zip(network.score(captions), network.score(captions[:1]), strict=True):
        torch.testing.assert_close(together[0], alone[0])
