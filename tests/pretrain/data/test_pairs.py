import numpy as np

from pretrain.data.pairs import measure_pairs


def test_the_example_of_the_docstring():
    pieces, boxes = np.array([12, 3]), np.array([36, 1])
    assert measure_pairs(pieces, boxes, max_text=64, images=True).tokens.tolist() == [51, 7]
    short = measure_pairs(pieces, boxes, max_text=10, images=False)
    assert (short.text.tolist(), short.image.tolist()) == ([10, 5], [1, 1])
