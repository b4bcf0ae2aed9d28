"""The vocabulary of the shipped model."""

from parsers.neural.model_folder import load_parser_network
from parsers.neural.parser import MODEL


def test_the_shipped_vocabulary_keeps_its_promises():
    vocabulary = load_parser_network(MODEL).vocabulary
    assert vocabulary.words[0] == vocabulary.relation_labels[0] == ""
    assert vocabulary.edits[0] == "-0+"
    assert 0 < vocabulary.frequent_words < len(vocabulary.words)
    for names in (vocabulary.words, vocabulary.edits, vocabulary.relation_labels, vocabulary.lookalikes):
        assert len(set(names)) == len(names)
    assert list(vocabulary.lookalikes) == sorted(vocabulary.lookalikes)
    assert set(vocabulary.lookalikes).isdisjoint(vocabulary.words)
