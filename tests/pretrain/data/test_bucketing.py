"""Pairs of similar length, and equal work for all ranks."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.bucketing import cut_evenly, interleave_by_length, micro_batches, slice_of, sort_runs

SETTINGS = settings(max_examples=40, deadline=None)


@given(n=st.integers(0, 100), ranks=st.integers(1, 16))
def test_the_slices_of_all_ranks_are_the_batch(n, ranks):
    rows = list(range(n))
    assert [row for rank in range(ranks) for row in rows[slice_of(n, rank, ranks)]] == rows
    sizes = [len(rows[slice_of(n, rank, ranks)]) for rank in range(ranks)]
    assert max(sizes) - min(sizes) <= 1


@given(lengths=st.lists(st.integers(1, 99), max_size=70), ranks=st.sampled_from([1, 2, 4, 8]))
def test_micro_batches_are_the_slice_of_their_rank(lengths, ranks):
    tokens = np.array(lengths, np.int64)
    for accumulation in (1, 2, 3):
        for rank in range(ranks):
            parts = micro_batches(tokens, rank=rank, ranks=ranks, accumulation=accumulation)
            own = range(len(tokens))[slice_of(len(tokens), rank, ranks)]
            assert sorted(np.concatenate(parts).tolist()) == list(own)
            filled = [tokens[part] for part in parts if len(part)]
            assert all(a.max() <= b.min() for a, b in pairwise(filled)), "short pairs are together"


@SETTINGS
@given(n=st.integers(0, 300))
def test_dealing_is_a_permutation_that_is_even_wherever_it_is_cut(n):
    order = interleave_by_length(np.arange(n))
    assert sorted(order.tolist()) == list(range(n))
    for ranks in (2, 4, 8):
        if n >= 8 * ranks:
            means = [order[slice_of(n, rank, ranks)].mean() for rank in range(ranks)]
            assert max(means) - min(means) <= n / 4, "sorted, they would differ by at least n / 2"


@given(
    tokens=st.lists(st.integers(1, 200), min_size=1, max_size=80).map(np.array),
    data=st.data(),
)
def test_cuts_are_even_and_leave_no_batch_empty(tokens, data):
    batches = data.draw(st.integers(1, len(tokens)))
    cuts = cut_evenly(tokens, batches)
    assert (cuts[0], cuts[-1]) == (0, len(tokens))
    assert (np.diff(cuts) >= 1).all()
    if tokens.sum() / batches > 2 * tokens.max():
        sums = np.add.reduceat(tokens, cuts[:-1])
        assert np.abs(sums - tokens.sum() / batches).max() <= tokens.max()


def test_the_examples_of_the_docstrings():
    assert sort_runs(np.array([5, 9, 1, 7, 3, 8, 2, 6]), np.array([0, 2, 4, 6, 8])).tolist() == [2, 0, 3, 1, 6, 4, 7, 5]
    assert cut_evenly(np.array([4, 4, 4, 6, 6, 12]), 3).tolist() == [0, 3, 5, 6]
    assert interleave_by_length(np.arange(8)).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    tokens = np.array([3, 9, 5, 7, 4, 8, 6, 2])
    parts = [micro_batches(tokens, rank=rank, ranks=2, accumulation=2) for rank in range(2)]
    assert [[part.tolist() for part in of_rank] for of_rank in parts] == [[[0, 2], [3, 1]], [[7, 4], [6, 5]]]
