"""What the network is trained to say."""

from dataclasses import replace

import torch

from parsers.gold import list_triples
from parsers.neural.network import GraphScores, ParserNetwork
from parsers.neural.parser import NeuralParser
from parsers.neural.word_encoder import WordEncoder
from parsers.train.labels import make_vocabulary
from parsers.train.targets import compute_batch_loss, compute_loss, make_graph_targets, make_teacher_targets
from tests.parsers.conftest import CAPTIONS


def without_plurals(triples):
    return {tuple({"dogs": "dog"}.get(part, part) for part in triple) for triple in triples}


def test_a_network_can_learn_every_kind_of_node(model):
    graphs = NeuralParser(model).parse([text for text, _ in CAPTIONS])
    for graph, (_, triples) in zip(graphs, CAPTIONS, strict=True):
        assert without_plurals(list_triples(graph)) == without_plurals(triples)


def test_what_a_sure_teacher_says_is_the_graph(examples):
    vocabulary = make_vocabulary(examples, [])
    for example in examples[:4]:
        true = make_graph_targets([example], vocabulary)
        odds = [20 * (2 * tensor[0] - 1) for tensor in true]
        cube = true.relations[0]
        sure = GraphScores(
            odds[0], odds[1], 20 * (2 * cube.amax(2) - 1), 20 * (2 * cube.amax(1) - 1), 20 * (2 * cube.amax(0) - 1),
            odds[3], odds[5], odds[6],
        )  # fmt: skip
        said = make_teacher_targets([sure])
        for name in ("roles", "attributes", "relations", "anchors"):
            torch.testing.assert_close(getattr(said, name), getattr(true, name), msg=name)
        for name in ("relation_labels", "edits"):
            true_labels, said_labels = getattr(true, name), getattr(said, name)
            torch.testing.assert_close(said_labels * true_labels, true_labels, msg=name)


def test_teachers_count_beside_graphs(examples):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    network = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval()
    example = examples[0]
    scores = network.score([example.words])
    said = GraphScores(*(tensor[0] for tensor in scores))
    by_graph = compute_loss(scores, make_graph_targets([example], vocabulary), torch.ones(1))
    by_teacher = compute_loss(scores, make_teacher_targets([said]), torch.ones(1))
    taught = replace(example, teacher_scores=said)
    for batch, expected in (
        ([example], by_graph),
        ([taught], by_graph + by_teacher),
        ([replace(taught, graph=None, weight=0.0)], by_teacher),
    ):
        torch.testing.assert_close(compute_batch_loss(scores, batch, vocabulary), expected)
