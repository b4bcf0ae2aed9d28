"""Work that is done ahead of its use, and batches of pictures of one shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.extract.prefetch import ahead, by_shape


def test_work_done_ahead_comes_in_order_and_is_not_far_ahead():
    begun = []

    def work(number):
        begun.append(number)
        return number * number

    results = ahead(work, range(100), threads=3)
    for number, result in enumerate(results):
        assert result == number * number
        assert len(begun) <= number + 1 + 2 * 3 + 1


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=40), st.integers(1, 5), st.integers(0, 200))
def test_batches_hold_every_picture_once_and_one_shape_each(shapes, size, held):
    pictures = [(number, np.zeros((*shape, 3), np.uint8)) for number, shape in enumerate(shapes)]
    waiting = 0
    taken = []

    def watched():
        nonlocal waiting
        for key, pixels in pictures:
            waiting += pixels.nbytes
            yield key, pixels

    for batch in by_shape(watched(), size, held):
        assert 1 <= len(batch) <= size
        assert len({pixels.shape for _, pixels in batch}) == 1
        waiting -= sum(pixels.nbytes for _, pixels in batch)
        taken += [key for key, _ in batch]
    assert sorted(taken) == list(range(len(pictures)))
    assert waiting == 0


def test_few_bytes_wait_for_others_of_their_shape():
    pictures = [(n, np.zeros((10, n + 1, 3), np.uint8)) for n in range(50)]  # all of different shapes
    taken = produced = 0

    def watched():
        nonlocal produced
        for key, pixels in pictures:
            produced += pixels.nbytes
            yield key, pixels

    for batch in by_shape(watched(), 8, 5_000):
        assert produced - taken <= 5_000 + pictures[-1][1].nbytes
        taken += sum(pixels.nbytes for _, pixels in batch)
    assert taken == sum(pixels.nbytes for _, pixels in pictures)
