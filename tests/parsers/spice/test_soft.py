"""Soft-SPICE."""

import sys

import numpy as np
import pytest

from parsers.command import InputError
from parsers.spice.soft import SoftSpice, list_phrases, load_encoder
from parsers.spice.tuples import ImageTriples


class WordCounts:
    """Turns a phrase into the numbers of some words in it: phrases of the same words have the same direction."""

    words = ("dog", "black", "sofa", "on")

    def encode(self, sentences):
        return np.array([[text.split().count(word) for word in self.words] for text in sentences], np.float32)


@pytest.fixture
def soft():
    return SoftSpice(None, WordCounts())


def test_tuples_are_phrases():
    triples = [("dog", "is", "black"), ("dog", "lie on", "sofa"), ("cat",)]
    assert set(list_phrases(triples)) == {"dog", "black dog", "dog lie on sofa", "sofa", "cat"}


def test_a_phrase_is_worth_its_nearest_of_the_other_side(soft):
    (score,) = soft.score([ImageTriples((("dog", "is", "black"),), (("dog", "on", "sofa"),))])
    # "dog" is in both; "black dog" has a cosine of sqrt(1/2) to "dog", "dog on sofa" one of sqrt(1/3), "sofa" none.
    assert score["All"]["pr"] == pytest.approx((1 + np.sqrt(1 / 2)) / 2)
    assert score["All"]["re"] == pytest.approx((1 + 0 + np.sqrt(1 / 3)) / 3)
    shares = [(1 + score["All"][name]) / 2 for name in ("pr", "re")]
    assert score["All"]["f"] == pytest.approx(2 * shares[0] * shares[1] / sum(shares))


def test_images_without_tuples_score_nothing(soft):
    empty = {"All": {"pr": 0, "re": 0, "f": 0}}
    assert (
        soft.score([ImageTriples((), (("dog",),)), ImageTriples((("dog",),), ()), ImageTriples((), ())]) == [empty] * 3
    )
    assert soft.score([ImageTriples((), ())]) == [empty]


def test_many_images_are_scored_as_each_alone(soft):
    images = [ImageTriples((("dog",),), (("sofa",), ("dog", "is", "black"))[i % 2 :]) for i in range(2500)]
    seen = []
    scores = soft.score(images, seen.append)
    assert sum(seen) == len(scores) == 2500
    assert scores == [soft.score(images[i : i + 1])[0] for i in (0, 1)] * 1250


def test_scores_agree_with_the_published_package(soft):
    published = pytest.importorskip("factual_scene_graph.evaluation.soft_spice_evaluation")
    sides = (
        (("dog", "is", "black"), ("dog", "on", "sofa")),
        (("dog",), ("sofa", "is", "black"), ("black dog", "on", "sofa")),
    )
    (ours,) = soft.score([ImageTriples(*sides)])
    texts = [" , ".join(f"( {' , '.join(triple)} )" for triple in side) for side in sides]
    *phrases, found, true = published.accumulate_phrases([texts[0]], [[texts[1]]])
    rows = [WordCounts().encode(side) for side in phrases]
    vectors = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in rows]
    for name, bidirectional in (("pr", False), ("f", True)):
        (theirs,) = published.compute_scores(*vectors, found, true, bidirectional)
        assert ours["All"][name] == pytest.approx(theirs)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"ernie-vil-pytorch\[soft-spice\]"):
        load_encoder("all-MiniLM-L6-v2")
