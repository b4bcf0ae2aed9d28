"""Finds pairs of entries that are alike without comparing all with all: locality-sensitive hashing.

An index gives each entry one key in each of several tables. Entries that are alike probably share a key in one of them,
so only entries that share a key are compared. Memory grows with the entries, and not with the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self, TypeVar

import numpy as np

from shards.schema import Array

_CHUNK = 1 << 17
"""about how many pairs are compared at a time"""
MOST = 64
"""In a corpus, an entry is compared with at most this many of those that follow it under the same key. So a key that a
million entries share takes no more time than other keys. Groups grow over all tables, which makes up for it."""


class Index(Protocol):
    """Entries, no two of which are equal, with their keys."""

    tables: int
    """how many keys each entry has"""
    entries: Array
    """int64 [rows], the entry of each row that was read; -1: it is like no other, and has none"""

    def __len__(self) -> int:
        """Returns the number of entries."""
        ...

    def keys(self, table: int) -> Array:
        """Returns uint32 [entries], the keys in one of the tables."""
        ...

    def similarity(self, entries: Array, other: Self, others: Array) -> Array:
        """Compares pairs.

        Args:
            entries: int64 [pairs], entries of this index.
            other: an index of the same kind.
            others: int64 [pairs], entries of it.

        Returns:
            float32 [pairs], from 0 to 1. Pairs that are not alike have 0.
        """
        ...


IndexT = TypeVar("IndexT", bound=Index)


def find_groups(index: Index) -> Array:
    """Puts entries into groups: those that are alike, those that are alike to one of these, and so on.

    Returns:
        int64 [entries], the number of the group of each entry. Most groups have one entry.
    """
    groups = np.arange(len(index))
    for table in range(index.tables):
        found = [np.zeros((2, 0), np.int64)]
        for a, b in _pairs_within(index.keys(table)):
            apart = groups[a] != groups[b]
            a, b = a[apart], b[apart]
            alike = index.similarity(a, index, b) > 0
            found.append(groups[np.stack([a[alike], b[alike]])])
        groups = _join(groups, np.concatenate(found, axis=1))
    return groups


def find_matches(index: IndexT, other: IndexT) -> tuple[Array, Array, Array]:
    """Finds all pairs of an entry of one index and an entry of another that are alike and share a key.

    Returns:
        int64 [pairs] and int64 [pairs], the entries of ``index`` and ``other``, in order, and float32 [pairs], how
        alike they are.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for table in range(index.tables):
        for b, a in _pairs_between(other.keys(table), index.keys(table)):
            similarity = index.similarity(a, other, b)
            alike = similarity > 0
            found.append((a[alike], b[alike], similarity[alike]))
    a, b, similarity = (np.concatenate(columns) for columns in zip(*found, strict=True))
    _, first = np.unique(a * max(1, len(other)) + b, return_index=True)
    return a[first], b[first], similarity[first]


def _join(groups: Array, pairs: Array) -> Array:
    """Joins groups.

    Args:
        groups: int64 [entries], the group of each entry.
        pairs: int64 [2, pairs], groups to be joined.
    """
    if pairs.size == 0:
        return groups
    from scipy.sparse import coo_matrix  # imported late, because it takes a while and --help should answer at once
    from scipy.sparse.csgraph import connected_components

    edges = coo_matrix((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(len(groups), len(groups)))
    joined: Array = connected_components(edges, directed=False)[1].astype(np.int64)
    return joined[groups]


def _pairs_within(keys: Array) -> Iterator[tuple[Array, Array]]:
    """Yields pairs of entries that share a key, each once, and at most `MOST` for the first entry of a pair."""
    order = np.argsort(keys, kind="stable")
    ordered, places = keys[order], np.arange(len(keys))
    stops = np.minimum(np.searchsorted(ordered, ordered, "right"), places + 1 + MOST)
    for numbers, others in _unfold(places + 1, stops):
        yield order[numbers], order[others]


def _pairs_between(keys: Array, others: Array) -> Iterator[tuple[Array, Array]]:
    """Yields all pairs of an entry with one of ``keys`` and an entry with the same of ``others``."""
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    starts, stops = (np.searchsorted(ordered, keys, side) for side in ("left", "right"))
    for numbers, found in _unfold(starts, stops):
        yield numbers, order[found]


def _unfold(starts: Array, stops: Array) -> Iterator[tuple[Array, Array]]:
    """Yields each range number with each place in the range: ranges 3 to 5 and 7 to 8 give (0, 3), (0, 4), (1, 7)."""
    numbers = np.flatnonzero(stops > starts)
    ends = np.cumsum(stops[numbers] - starts[numbers])
    cuts = np.searchsorted(ends, np.arange(_CHUNK, ends[-1] if len(ends) else 0, _CHUNK)) + 1
    for some in np.split(numbers, cuts):
        yield np.repeat(some, stops[some] - starts[some]), unfold_ranges(starts[some], stops[some])


def unfold_ranges(starts: Array, stops: Array) -> Array:
    """Returns all places of some ranges, one range after the other: 3 to 5 and 7 to 8 give 3, 4, 7."""
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths
    places: Array = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return places
