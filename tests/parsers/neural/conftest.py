import pytest
import torch

from parsers.neural.network import ParserNetwork
from parsers.neural.vocabulary import Vocabulary
from parsers.neural.word_encoder import WordEncoder


@pytest.fixture(scope="session")
def network():
    """A small network with random weights."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(("", "a", "dog", "mat"), ("-0+", "-1+"), ("", "have", "in"), 2)
    network = ParserNetwork(WordEncoder(vocabulary.words, width=7), vocabulary, arc=4).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network
