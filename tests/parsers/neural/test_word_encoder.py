"""Word vectors and what they are made of."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from parsers.neural.tokenizer import tokenize
from parsers.neural.word_encoder import PARTS_PER_WORD, WordEncoder, hash_parts


@given(st.text(min_size=1, max_size=20))
def test_parts_of_words_have_a_fixed_number(form):
    assert len(hash_parts(form)) == PARTS_PER_WORD == 12
    assert hash_parts(form)[0] > 0


def test_a_network_starts_from_word_vectors():
    words = ["", "man", "dog", "hat"]
    encoder = WordEncoder(words, width=8)
    before = encoder.words.weight.detach().clone()
    vectors = torch.randn(4, 6) * 7
    encoder.start_from(vectors)
    after = encoder.words.weight.detach()
    torch.testing.assert_close(after[1:, :6] / after[1, 0], vectors[1:] / vectors[1, 0])
    torch.testing.assert_close(after[1:, 6:], before[1:, 6:])
    assert not after[0].any()
    assert 0.2 < after[1:, :6].std() < 0.4


def test_long_numbers_look_the_same_and_unknown_words_have_their_parts():
    encoder = WordEncoder(["", "dog", "00"], width=8).eval()
    (numbers,) = encoder.inputs([tokenize("dog 17 dogz 123")])
    assert numbers.shape == (1, 4, 1 + PARTS_PER_WORD)
    assert numbers[0, :, 0].tolist() == [1, 2, 0, 0]
    assert encoder(numbers).shape == (1, 4, encoder.size)
    shared = set(hash_parts("dog")) & set(hash_parts("dogz")) - {0}
    assert shared
    assert encoder.embed(numbers)[0, 2].any()


def test_words_lose_their_number_only_in_training():
    encoder = WordEncoder(["", "dog"], width=8, dropout=0.0, forgotten=1.0)
    (numbers,) = encoder.inputs([tokenize("dog")])
    unknown = numbers.clone()
    unknown[..., 0] = 0
    torch.testing.assert_close(encoder(numbers), encoder(unknown))
    encoder.eval()
    assert not torch.equal(encoder(numbers), encoder(unknown))
