"""The parser with a network that has learned a handful of captions by heart."""

import pytest
import torch

from parsers.neural.decode import MAX_NODES
from parsers.neural.inference import Inference
from parsers.neural.model_folder import load_parser_network, save_network
from parsers.neural.network import ParserNetwork
from parsers.neural.parser import NeuralParser
from parsers.neural.word_encoder import WordEncoder


@pytest.fixture(scope="module")
def learned(model):
    return NeuralParser(model)


def test_spans_hold_the_words(learned):
    graph = learned.parse(["Two dogs sitting on a red mat"])[0]
    word = lambda span: graph.caption[span.start : span.end]  # noqa: E731
    assert {word(node.span) for node in graph.objects} == {"dogs", "mat"}
    assert {word(node.span) for node in graph.attributes} == {"Two", "red"}
    assert [word(span) for relation in graph.relations for span in relation.spans] == ["sitting on"]
    wordless = learned.parse(["a car tire"])[0].relations
    assert [relation.spans for relation in wordless] == [()]


def test_long_texts_are_read_up_to_a_bound(learned):
    for count in (MAX_NODES - 1, MAX_NODES, MAX_NODES + 1, 600):
        caption = "a cat on the small blue car , " * (count // 8)
        (graph,) = learned.parse([caption])
        assert graph.caption == caption


def test_the_version_follows_the_weights(model, learned, tmp_path):
    torch.manual_seed(1)
    vocabulary = load_parser_network(model).vocabulary
    other = ParserNetwork(WordEncoder(vocabulary.words, width=8), vocabulary)
    save_network(other, tmp_path)
    assert NeuralParser(tmp_path).version != learned.version


def test_parsing_starts_from_nothing(network, tmp_path, monkeypatch):
    """Computed beside other words, a word's numbers may differ in the last bit, and workers read different captions."""
    calls = []
    forget, infer = Inference.forget, Inference.__call__
    monkeypatch.setattr(Inference, "forget", lambda self: calls.append("forget") or forget(self))
    monkeypatch.setattr(Inference, "__call__", lambda self, words: calls.append(len(words)) or infer(self, words))
    save_network(network, tmp_path)
    parser = NeuralParser(tmp_path)
    parser.parse(["a dog", "two mats"])
    parser.parse(["a mat"])
    assert calls == ["forget", 2, "forget", 1]


def test_a_misspelt_word_keeps_its_span(learned):
    (right, wrong) = learned.parse(["a cat on the small blue car", "a cat on teh smalll blue car"])
    assert [node.lemma for node in wrong.objects] == [node.lemma for node in right.objects] == ["cat", "car"]
    assert [wrong.caption[node.span.start : node.span.end] for node in wrong.attributes] == ["smalll", "blue"]


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        NeuralParser(tmp_path)
