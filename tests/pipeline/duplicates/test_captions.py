"""Captions that nearly repeat each other."""

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates.captions import MIN_SIMILARITY, CaptionIndex
from pipeline.duplicates.search import MOST, find_groups, find_matches

LONG = "a man in a blue shirt is riding his old red bike down the busy street"


def index_of(texts, size=4):
    return CaptionIndex(pa.array(texts[start : start + size], pa.string()) for start in range(0, len(texts), size))


def groups_of(texts):
    index = index_of(texts)
    labels = np.append(find_groups(index), -1)[index.entries]
    found = {}
    for place, label in enumerate(labels.tolist()):
        if label >= 0:
            found.setdefault(label, []).append(place)
    return sorted(places for places in found.values() if len(places) > 1)


def measure(a, b):
    """The similarity of two captions, written down anew."""
    sets = []
    for text in (a, b):
        words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())
        sets.append({*words, *pairwise(words)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize(
    "other",
    [
        LONG.upper() + "!",
        "A man, in a blue shirt, is riding his old red bike down the busy street.",
        "Ａ man in a blue shirt is riding his old red bike down the busy street",
        LONG.replace("busy ", ""),
        LONG.replace("old", "very old"),
        LONG.replace("busy", "quiet"),
    ],
)
def test_captions_that_say_nearly_the_same_are_a_group(other):
    assert groups_of(["two dogs sleep on a sofa", LONG, "a cat", other]) == [[1, 3]]


@pytest.mark.parametrize(
    "other",
    [
        " ".join(reversed(LONG.split())),
        "a woman in a green dress is riding her new black bike down the empty road",
        "riding down the street",
        "",
        "?!",
    ],
)
def test_captions_that_say_something_else_are_none(other):
    assert groups_of([LONG, other]) == []


def test_captions_without_words_are_no_group():
    assert groups_of(["", "", "...", "…", "!"]) == []


def test_a_group_goes_from_neighbour_to_neighbour():
    steps = [LONG, LONG.replace("busy", "quiet"), LONG.replace("busy", "quiet").replace("blue", "green")]
    assert measure(steps[0], steps[2]) < MIN_SIMILARITY
    assert groups_of(steps) == [[0, 1, 2]]


words = st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=14).map(" ".join)


@settings(max_examples=40)
@given(st.lists(words, max_size=12), st.lists(words, max_size=12))
def test_every_match_has_the_similarity_that_it_says(ours, theirs):
    index, other = index_of(ours), index_of(theirs)
    found = find_matches(index, other)
    rows = [np.unique(of.entries, return_index=True)[1] for of in (index, other)]
    for a, b, similarity in zip(*found, strict=True):
        expected = measure(ours[rows[0][a]], theirs[rows[1][b]])
        assert similarity == pytest.approx(expected)
        assert expected >= MIN_SIMILARITY
    certain = {(a, b) for a, x in enumerate(ours) for b, y in enumerate(theirs) if measure(x, y) > 0.9}
    pairs = set(zip(found[0].tolist(), found[1].tolist(), strict=True))
    assert {(index.entries[a], other.entries[b]) for a, b in certain} <= pairs


@settings(max_examples=20)
@given(
    st.permutations([LONG, LONG + " today", "two dogs", "Two dogs.", "a cat", "one two three four"]), st.integers(1, 6)
)
def test_groups_do_not_depend_on_the_order_or_the_batches(texts, size):
    index = index_of(texts, size)
    groups = find_groups(index)[index.entries]
    together = {frozenset(texts[i] for i in np.flatnonzero(groups == g)) for g in groups}
    assert together == {
        frozenset({LONG, LONG + " today"}),
        frozenset({"two dogs", "Two dogs."}),
        frozenset({"a cat"}),
        frozenset({"one two three four"}),
    }


def test_more_captions_than_are_compared_under_a_key_still_become_one_group():
    texts = [f"{LONG} with number {number}" for number in range(4 * MOST)]
    assert groups_of(texts) == [list(range(len(texts)))]


def test_most_captions_that_differ_in_one_word_are_found():
    values = np.random.default_rng(1)
    vocabulary = [f"word{number}" for number in range(5000)]
    texts = []
    for _ in range(500):
        caption = values.choice(vocabulary, 12, replace=False).tolist()
        texts += [" ".join(caption), " ".join([*caption[:4], "changed", *caption[5:]])]
    found = groups_of(texts)
    assert all(len(group) == 2 and group[0] % 2 == 0 and group[1] == group[0] + 1 for group in found)
    assert len(found) > 0.95 * 500
