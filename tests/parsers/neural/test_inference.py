"""Fast inference gives the scores of the network."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.inference import Inference
from parsers.neural.tokenizer import TokenizedCaption, tokenize

FORMS = st.sampled_from(["a", "dog", "mat", "mats", "x1", "2", "25", "'", "é"])


@given(
    st.integers(1, 12).flatmap(
        lambda length: st.lists(st.lists(FORMS, min_size=length, max_size=length), min_size=1, max_size=5)
    )
)
def test_inference_scores_as_the_network_does(network, forms):
    captions = [TokenizedCaption(words, ()) for words in forms]
    for found, scores in zip(Inference(network)(captions), network.score(captions), strict=True):
        torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)


TEXTS = ("man's hat", "a car tire", "a red cell phone", "a red hot dog", "a dog on a mat")
CAPTIONS = [tokenize(text) for text in TEXTS]


def test_forgotten_words_are_looked_up_again(network, monkeypatch):
    monkeypatch.setattr("parsers.neural.inference.MAX_FORMS", 6)
    infer = Inference(network)
    captions = [[caption] for caption in CAPTIONS] * 2
    for caption in captions:
        torch.testing.assert_close(infer(caption).roles, network.score(caption).roles)


def test_after_forgetting_scores_are_those_of_a_fresh_start(network):
    infer = Inference(network)
    for caption in CAPTIONS:
        infer([caption])
    infer.forget()
    for again, fresh in zip(infer(CAPTIONS[-1:]), Inference(network)(CAPTIONS[-1:]), strict=True):
        assert torch.equal(again, fresh), "to the last bit"
