"""How pairs of similar length come together, and how equal work goes to all ranks."""

from __future__ import annotations

import math

import numpy as np

from shards.schema import Array


def sort_runs(num_boxes: Array, cuts: Array) -> Array:
    """Returns an order of pairs in which the pairs of a batch have similar numbers of boxes, too.

    The pairs are sorted by the length of the text already. Both streams are padded, so neither length may decide
    alone: the list is divided into as many runs of whole batches as each run has batches, and each run is sorted by the
    number of boxes.

    Example: 8 pairs with 5 9 1 7 | 3 8 2 6 boxes, in batches of two: two runs of two batches. The order is
    2 0 3 1 | 6 4 7 5, which gives batches of 1 5, 7 9, 2 3 and 6 8 boxes.

    Args:
        num_boxes: int64 [n], in the order of the texts' lengths.
        cuts: int64 [batches + 1], where each batch begins, and the end.

    Returns:
        int64 [n].
    """
    batches = len(cuts) - 1
    runs = max(1, round(math.sqrt(batches)))
    ends = cuts[np.arange(1, runs) * batches // runs]
    return np.concatenate(
        [run[np.argsort(num_boxes[run], kind="stable")] for run in np.split(np.arange(len(num_boxes)), ends)]
    )


def cut_evenly(tokens: Array, batches: int) -> Array:
    """Returns where to cut a list so that each batch has about the same sum of tokens; no batch is empty.

    Example: tokens 4 4 4 6 6 12 in three batches: 36 tokens, so 12 each. The cuts are 0 3 5 6.

    Args:
        tokens: int64 [n].
        batches: at most n.

    Returns:
        int64 [batches + 1].
    """
    number = np.arange(batches + 1)
    sums = np.append(0, np.cumsum(tokens))
    cuts = np.searchsorted(sums, number * sums[-1] / max(1, batches))
    cuts = np.maximum.accumulate(cuts - number) + number
    found: Array = np.minimum(cuts, len(tokens) - batches + number)
    return found


def interleave_by_length(tokens: Array) -> Array:
    """Returns an order in which every run of pairs has long and short ones in equal shares, wherever it is cut.

    The pair at position i is the one that the sorted list has at i with its bits reversed (van der Corput's sequence).

    Example: eight pairs that are sorted by length already get the order 0 4 2 6 1 5 3 7. Halves have 0 4 2 6 and
    1 5 3 7, quarters 0 4, 2 6, 1 5 and 3 7.

    Args:
        tokens: int64 [n].

    Returns:
        int64 [n].
    """
    bits = max(1, int(len(tokens) - 1).bit_length())
    reversed_bits = np.zeros(1, np.int64)
    for _ in range(bits):
        reversed_bits = np.concatenate([2 * reversed_bits, 2 * reversed_bits + 1])
    return np.argsort(tokens, kind="stable")[reversed_bits[reversed_bits < len(tokens)]]


def micro_batches(tokens: Array, *, rank: int, ranks: int, accumulation: int) -> list[Array]:
    """Returns the positions in a global batch of the pairs of each micro-batch of a rank.

    A rank's slice is sorted by length before it is divided. So all ranks have equal work, and no short pair is padded
    to the length of a long one.

    Example: pairs of 3 9 5 7 | 4 8 6 2 tokens, two ranks and two micro-batches: rank 0 gets the pairs 0 2 and 3 1, of
    3 5 and 7 9 tokens; rank 1 gets 7 4 and 6 5, of 2 4 and 6 8.

    Args:
        tokens: int64 [n], lengths of the pairs of the global batch.
        rank: of ``ranks``.
        ranks: processes that train together.
        accumulation: micro-batches of a rank.

    Returns:
        ``accumulation`` arrays int64; some may be empty.
    """
    own = slice_of(len(tokens), rank, ranks)
    order = own.start + np.argsort(tokens[own], kind="stable")
    return [order[slice_of(len(order), part, accumulation)] for part in range(accumulation)]


def slice_of(n: int, rank: int, ranks: int) -> slice:
    """Returns a rank's slice of a list of n items: [rank * n / ranks, (rank + 1) * n / ranks). It may be empty."""
    return slice(rank * n // ranks, (rank + 1) * n // ranks)
