import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.truncation import truncate_lengths


def test_the_example_of_the_docstring():
    assert truncate_lengths([9, 4, 9], 15).tolist() == [6, 4, 5]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 60))
def test_no_more_is_cut_than_must_be_and_only_from_the_longest(lengths, most):
    kept = truncate_lengths(lengths, most)
    assert kept.sum() == min(sum(lengths), most)
    assert (kept <= lengths).all()
    cut = kept < np.array(lengths)
    if cut.any():
        assert kept.max() - kept[cut].min() <= 1, "what is cut is among the longest"


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 20))
def test_of_two_segments_the_longer_is_cut_as_in_the_released_code(first, second, most):
    expected = [first, second]
    while sum(expected) > most:
        expected[0 if expected[0] > expected[1] else 1] -= 1
    assert truncate_lengths([first, second], most).tolist() == expected
