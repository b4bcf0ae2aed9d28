"""Ranks and recalls beside a plain sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.tasks.retrieval import ranking
from finetune.tasks.retrieval.ranking import compute_recalls, rank, rank_in_folds
from parsers.command import InputError


@st.composite
def matrices(draw):
    """Scores with many ties, and the image of each caption; every image has captions, in any order."""
    images = draw(st.integers(1, 7))
    own = draw(st.permutations([i for i in range(images) for _ in range(draw(st.integers(1, 3)))]))
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0])
    scores = [[draw(values) for _ in range(images)] for _ in own]
    return np.array(scores, np.float32), np.array(own, np.int64)


def brute_force(scores, right, key):
    """The place of the best right one, when sorted by score and then by ``key``, the largest first."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], key(i)), reverse=True)
    best = next(place for place, i in enumerate(order, 1) if right[i])
    return best if scores[order[best - 1]] > -np.inf else np.inf


@given(matrices())
def test_a_tie_counts_against_the_right_one(case):
    scores, own = case
    found = rank(scores, own)
    for caption, row in enumerate(scores):
        right = np.arange(len(row)) == own[caption]
        assert found.images[caption] == brute_force(row, right, lambda i, right=right: not right[i])
    for image, column in enumerate(scores.T):
        right = own == image
        assert found.texts[image] == brute_force(column, right, lambda i, right=right: not right[i])


@given(matrices())
def test_as_released_the_larger_name_is_first(case):
    scores, own = case
    captions, images = [str(97 - i) for i in range(len(own))], [str(i * 5) for i in range(scores.shape[1])]
    found = rank(scores, own, (captions, images))
    for caption, row in enumerate(scores):
        right = np.arange(len(row)) == own[caption]
        assert found.images[caption] == brute_force(row, right, lambda i: images[i])
    for image, column in enumerate(scores.T):
        assert found.texts[image] == brute_force(column, own == image, lambda i: captions[i])


def test_a_model_that_says_the_same_of_all_finds_nothing():
    own = np.repeat(np.arange(30), 5)
    found = rank(np.zeros((150, 30)), own)
    assert (found.images == 30).all()
    assert (found.texts == 146).all()  # the other four captions of the image are right, too
    assert compute_recalls(found.images, found.texts)["recall"] == 0


def test_recalls_by_hand():
    #           images: 0    1    2
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.95], [0.1, 0.7, 0.2], [0.0, 0.5, 0.6]])
    found = rank(scores, np.array([0, 0, 1, 2]))
    assert found.images.tolist() == [1, 3, 1, 1]
    assert found.texts.tolist() == [1, 2, 2]
    assert compute_recalls(found.images, found.texts) == {
        "recall": pytest.approx((3 / 4 + 1 + 1 + 1 / 3 + 1 + 1) / 6),
        "image/R@1": 3 / 4,
        "image/R@5": 1,
        "image/R@10": 1,
        "text/R@1": pytest.approx(1 / 3),
        "text/R@5": 1,
        "text/R@10": 1,
    }


def hits(scores, right, k):
    """Whether the best right one is among the first k, told by counting those that are as good and wrong."""
    best = max((score for score, is_right in zip(scores, right, strict=True) if is_right), default=-np.inf)
    return (
        best > -np.inf and sum(score >= best for score, is_right in zip(scores, right, strict=True) if not is_right) < k
    )


def test_two_implementations_of_the_recall_agree_on_thousands_of_tied_rankings():
    random = np.random.default_rng(0)
    values = np.array([-np.inf, -1.0, -0.0, 0.0, np.nextafter(np.float32(1), np.float32(0)), 1.0, np.inf], np.float32)
    for _ in range(400):
        images = int(random.integers(1, 16))
        own = random.permutation(np.repeat(np.arange(images), random.integers(1, 4, images)))
        scores = random.choice(values, (len(own), images), p=random.dirichlet(np.ones(len(values))))
        ranks = rank(scores, own)
        found = compute_recalls(ranks.images, ranks.texts)
        for k in (1, 5, 10):
            by_image = [
                hits(row.tolist(), np.arange(images) == image, k) for row, image in zip(scores, own, strict=True)
            ]
            by_text = [hits(scores[:, image].tolist(), own == image, k) for image in range(images)]
            assert found[f"image/R@{k}"] == pytest.approx(sum(by_image) / len(by_image), abs=1e-12)
            assert found[f"text/R@{k}"] == pytest.approx(sum(by_text) / len(by_text), abs=1e-12)


def test_folds_are_ranked_by_themselves(monkeypatch):
    monkeypatch.setattr(ranking, "FOLD", 4)
    random = np.random.default_rng(0)
    own = random.permutation(np.repeat(np.arange(10), 2))
    scores = random.normal(size=(20, 10))
    assert rank_in_folds(scores[own < 7][:, :7], own[own < 7]) is None
    found = rank_in_folds(scores, own)
    for start in (0, 4):
        rows = (own >= start) & (own < start + 4)
        expected = rank(scores[rows][:, start : start + 4], own[rows] - start)
        assert (found.images[rows] == expected.images).all()
        assert (found.texts[start : start + 4] == expected.texts).all()
    assert np.isnan(found.images[own >= 8]).all()
    assert np.isnan(found.texts[8:]).all()


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="not numbers"):
        rank(np.array([[np.nan, 1.0]]), np.array([0]))
