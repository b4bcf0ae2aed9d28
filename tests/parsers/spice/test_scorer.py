"""SPICE of captions."""

import math

import pytest

import parsers
from parsers.evaluate.synonyms import find_synonyms
from parsers.lemmatizer import Lemmatizer
from parsers.spice.scorer import Spice, average
from parsers.spice.tuples import ImageTriples

wordnet = pytest.mark.skipif(find_synonyms(Lemmatizer()) is None, reason="WordNet is not installed (extra spice)")


@pytest.fixture(scope="module")
def parser():
    return parsers.get("neural")


@pytest.fixture(scope="module")
def spice(parser):
    return Spice(parser, synonyms=False)


def test_every_kind_is_scored_by_its_tuples(spice):
    candidate = (("dogs", "is", "2"), ("dogs", "is", "black"), ("dogs", "on", "sofa"))
    references = (("dog", "is", "2"), ("dog", "is", "brown"), ("dog", "is", "big"), ("dog", "lie on", "sofa"), ("cat",))
    (scores,) = spice.score([ImageTriples(candidate, references)])
    figures = {kind: (score["pr"], score["re"]) for kind, score in scores.items()}
    assert figures == {
        "All": (3 / 5, 3 / 7),  # dog; sofa; dog, 2
        "Object": (1, 2 / 3),
        "Attribute": (1 / 2, 1 / 3),
        "Relation": (0, 0),
        "Color": (0, 0),
        "Cardinality": (1, 1),
        "Size": (0, 0),
    }
    assert scores["All"]["f"] == pytest.approx(2 * 3 / (5 + 7))


def test_the_scores_have_the_shape_that_pycocoevalcap_gives(spice):
    gts = {7: ["a black dog on a sofa", "a dog"], 3: ["a red car"], 5: ["a cat"]}
    mean, scores = spice.compute_score(gts, {3: ["a blue car"], 5: [""], 7: ["a black dog on a sofa"]})
    assert [score["All"]["f"] for score in scores] == [1, 0.5, 0]  # in the order of gts
    assert mean == pytest.approx(0.5)
    assert scores[1]["Color"] == {"pr": 0, "re": 0, "f": 0}
    assert all(math.isnan(figure) for figure in scores[2]["Color"].values())
    assert average(scores)["Color"] == {"pr": 0.5, "re": 0.5, "f": 0.5, "numImages": 2}
    assert spice.method() == "SPICE"


def test_captions_without_tuples_score_nothing(spice):
    mean, scores = spice.compute_score({1: ["", ""], 2: ["a dog"]}, {1: ["a dog"], 2: ["   "]})
    assert mean == 0
    assert [score["All"] for score in scores] == [{"pr": 0, "re": 0, "f": 0}] * 2


def test_ids_that_differ_are_an_error(spice):
    with pytest.raises(ValueError, match="have references, but no candidate: 2"):
        spice.compute_score({1: ["a"], 2: ["b"]}, {1: ["a"]})


@wordnet
def test_synonyms_match_and_references_that_are_synonymous_count_once(parser):
    gts, res = {1: ["a dog on a sofa", "a hound on a couch"]}, {1: ["a dog on a couch"]}
    assert Spice(parser).compute_score(gts, res)[0] == 1
    assert Spice(parser, synonyms=False).compute_score(gts, res)[0] < 1
