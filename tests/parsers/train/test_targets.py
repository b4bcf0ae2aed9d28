"""What the network is trained to say."""

from dataclasses import replace

import torch

from parsers.gold import list_triples
from parsers.neural.network import VISIBLE, GraphScores, ParserNetwork
from parsers.neural.parser import NeuralParser
from parsers.neural.word_encoder import WordEncoder
from parsers.train.labels import make_vocabulary
from parsers.train.targets import (
    LEAST_PROBABILITY,
    compress,
    compute_batch_loss,
    compute_loss,
    expand,
    make_graph_targets,
    make_teacher_targets,
)
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
        odds = {name: 20 * (2 * tensor - 1) for name, tensor in true._asdict().items()}
        cube = true.relations
        sure = GraphScores(
            odds["roles"], odds["attributes"],
            20 * (2 * cube.amax(3) - 1), 20 * (2 * cube.amax(2) - 1), 20 * (2 * cube.amax(1) - 1),
            odds["relation_words"], odds["relation_labels"], odds["edits"],
        )  # fmt: skip
        said = make_teacher_targets(sure)
        for name in ("roles", "judged", "attributes", "relations", "anchors"):
            torch.testing.assert_close(getattr(said, name), getattr(true, name), msg=name)
        for name in ("relation_labels", "edits"):
            true_labels, said_labels = getattr(true, name), getattr(said, name)
            torch.testing.assert_close(said_labels * true_labels, true_labels, msg=name)


def test_targets_are_kept_but_for_those_near_zero(examples):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    network = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval()
    batch = [example for example in examples if len(example.words) == 6]
    assert len(batch) > 1
    for targets in (
        make_graph_targets(batch, vocabulary),
        make_teacher_targets(network.score([example.words for example in batch])),
    ):
        kept = expand(compress(targets), 6, vocabulary)
        for name, tensor in targets._asdict().items():
            wanted = tensor.where(tensor >= LEAST_PROBABILITY, 0.0)
            torch.testing.assert_close(getattr(kept, name), wanted, atol=1e-3, rtol=1e-3, msg=name)


def test_teachers_count_beside_graphs(examples):
    vocabulary = make_vocabulary(examples, [])
    torch.manual_seed(0)
    network = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary).eval()
    example = examples[0]
    scores = network.score([example.words])
    (said,) = compress(make_teacher_targets(scores))
    by_graph = compute_loss(scores, make_graph_targets([example], vocabulary), torch.ones(1))
    by_teacher = compute_loss(scores, expand([said], len(example.words), vocabulary), torch.ones(1))
    taught = replace(example, reading=said)
    for batch, expected in (
        ([example], by_graph),
        ([taught], by_graph + by_teacher),
        ([replace(taught, graph=None, weight=0.0)], by_teacher),
    ):
        torch.testing.assert_close(compute_batch_loss(scores, batch, vocabulary), expected)


def test_what_nobody_can_see_is_learned_where_it_is_known(examples):
    vocabulary = make_vocabulary(examples, [])
    example = next(example for example in examples if example.graph.attributes)
    (phrase, _), *_ = example.graph.objects
    hidden = make_graph_targets([replace(example, hidden=frozenset([phrase.last]))], vocabulary)
    assert hidden.judged[0, phrase.last] == 1
    assert hidden.roles[0, phrase.last, VISIBLE] == 0
    seen = make_graph_targets([example], vocabulary)
    assert seen.roles[0, phrase.last, VISIBLE] == 1
    unknown = make_graph_targets([replace(example, hidden=None)], vocabulary)
    assert not unknown.judged.any()
    scores = GraphScores(
        *(torch.zeros_like(t) for t in (*seen[:1], *seen[2:3], *[seen.attributes] * 3, *seen[4:5], *seen[6:]))
    )
    losses = [
        compute_loss(scores._replace(roles=odds), unknown, torch.ones(1))
        for odds in (seen.roles * 0, seen.roles * 0 + torch.tensor([0.0, 0, 0, 9]))
    ]
    torch.testing.assert_close(losses[0], losses[1])
