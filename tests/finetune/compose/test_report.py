"""Intervals and verdicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.compose.report import count_right, estimate_wilson_interval, make_record, say_what_is_solved_blind
from finetune.compose.scoring import WORDS
from finetune.compose.suites import CaptionPair
from pretrain.cloze import OTHER, OWN


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # The values are those of R's prop.test(hits, count, correct = FALSE).
    [(10, 10, 0.7224672, 1), (0, 10, 0, 0.2775328), (60, 100, 0.5020026, 0.6905987), (1, 2, 0.0945312, 0.9054688)],
)
def test_the_interval_is_wilsons(hits, count, low, high):
    np.testing.assert_allclose(estimate_wilson_interval(hits, count), (low, high), atol=1e-6)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_mirrors(hits_and_count):
    hits, count = hits_and_count
    low, high = estimate_wilson_interval(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    np.testing.assert_allclose(estimate_wilson_interval(count - hits, count), (1 - high, 1 - low), atol=1e-9)


def pairs_of(*kinds):
    return [CaptionPair(str(n), kind, "1", "a", "b") for n, kind in enumerate(kinds)]


def scores(right):
    """The caption has the higher score where it says so."""
    return np.where(np.array(right, bool)[:, None], [[1, 0]], [[0, 1]]).astype(np.float32)


def test_accuracies_by_kind_and_over_all():
    pairs = pairs_of("x", "y", "x", "x", "y")
    own, other = scores([1, 1, 0, 1, 1]), np.zeros((5, 2), np.float32)
    result = count_right(pairs, {OWN: own, OTHER: other})
    assert [(of_kind.kind, of_kind.pairs) for of_kind in result.kinds] == [("x", 3), ("y", 2)]
    assert [of_kind.accuracies[OWN].accuracy for of_kind in result.kinds] == [2 / 3, 1]
    assert result.total.accuracies[OWN].accuracy == 4 / 5
    assert result.mean_of_kinds[OWN] == pytest.approx(5 / 6)
    assert result.total.accuracies[OTHER].accuracy == 0, "equal scores are wrong"
    assert make_record(result)["kinds"]["x"]["accuracies"][OWN]["accuracy"] == 2 / 3


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(50, ""), (59, ""), (61, "above chance"), (74, "above chance"), (75, "solved blind"), (20, "")],
)
def test_the_verdict_is_that_of_the_best_blind_score(right, verdict):
    hits = [1] * right + [0] * (100 - right)
    blind = {OTHER: scores([0, 1] * 50), WORDS: scores(hits)}
    result = count_right(pairs_of(*["x"] * 100), {OWN: scores([1] * 100), **blind})
    assert result.total.verdict == verdict
    said = say_what_is_solved_blind(result)
    assert (said is not None) == (verdict == "solved blind")
    if said is not None:
        assert f"x ({WORDS} {right}.0%)" in said


def test_few_pairs_give_no_verdict():
    result = count_right(pairs_of("x", "x", "x"), {OWN: scores([1, 1, 1]), WORDS: scores([1, 1, 1])})
    assert result.total.verdict == ""
