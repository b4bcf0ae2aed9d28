import pytest

from parsers.neural.tokenizer import tokenize
from parsers.train.examples import TrainingExample

CAPTIONS = [
    ("a man wearing a red hat", [("man", "wear", "hat"), ("hat", "is", "red")]),
    ("two dogs on a big mat", [("dogs", "is", "2"), ("dogs", "on", "mat"), ("mat", "is", "big")]),
    ("the leg of a man", [("man", "have", "leg")]),
    ("red dog", [("dog", "is", "red")]),
]


@pytest.fixture(scope="session")
def examples(align):
    pairs = [(tokenize(text), triples) for text, triples in CAPTIONS * 3]
    return [TrainingExample(words, align(words, triples)) for words, triples in pairs]
