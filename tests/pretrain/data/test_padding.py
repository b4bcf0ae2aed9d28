"""Texts and images of unequal length as tensors."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.padding import pad_images, pad_texts, padded_length


@given(st.lists(st.integers(1, 600)))
def test_only_cuda_pads_further_than_the_longest(lengths):
    longest = max(lengths, default=1)
    assert padded_length(lengths, "cpu") == padded_length(lengths, "mps") == longest
    assert longest <= padded_length(lengths, "cuda") < longest + 8
    assert padded_length(lengths, "cuda") % 8 == 0 or len(set(lengths)) < 2
    assert padded_length([longest] * 3, "cuda") == longest, "what needs no mask is not padded"


@dataclass
class Text:
    token_ids: np.ndarray
    segment_ids: np.ndarray


@dataclass
class Image:
    features: np.ndarray
    locations: np.ndarray


def test_what_is_padded_is_hidden_and_at_the_first_position():
    texts = [Text(np.array([7, 8, 9]), np.array([0, 0, 1])), Text(np.array([7]), np.array([2]))]
    found = pad_texts(texts, pad=5, device_type="cpu")
    assert found.token_ids.tolist() == [[7, 8, 9], [7, 5, 5]]
    assert found.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert found.segment_ids.tolist() == [[0, 0, 1], [2, 0, 0]]
    assert found.text_mask.tolist() == [[True] * 3, [True, False, False]]
    assert pad_texts(texts[:1], pad=5, device_type="cpu").text_mask is None


def test_images_are_padded_with_zeros():
    images = [Image(np.ones((n, 4), np.float32), np.ones((n, 5), np.float32)) for n in (1, 2)]
    found = pad_images(images, feature_size=4, device_type="cpu")
    assert found.features.sum((1, 2)).tolist() == [4, 8]
    assert found.locations.sum((1, 2)).tolist() == [5, 10]
    assert found.image_mask.tolist() == [[True, False], [True, True]]
    assert pad_images([], feature_size=4, device_type="cuda").features.shape == (0, 1, 4)
