"""Scores of pairs are those of the plain model, and the blind ones do not see the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.compose import scoring
from finetune.compose.scoring import (
    WORDS,
    OpenSuite,
    crop_regions,
    load_judge,
    open_suite,
    score_pairs,
)
from finetune.inputs import ImageRows, Sources, TokenizedText
from parsers.command import InputError
from pretrain.cloze import NONE, OTHER, OWN
from pretrain.model.folder import load_model
from shards.boxes import WHOLE_IMAGE
from shards.regions.store import RegionStore
from shards.regions.table import RegionsRow
from shards.schema import Regions

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def regions(toy_suite):
    return RegionStore([toy_suite.regions])


@pytest.fixture(scope="module")
def suite(toy_suite, regions):
    return open_suite(toy_suite.suite, regions, skip_missing_images=False)


@pytest.fixture(scope="module")
def judge(toy_suite):
    return load_judge(toy_suite.model, CPU)


def blank(regions):
    return ImageRows(np.zeros((1, regions.feature_size), np.float32), WHOLE_IMAGE)


def test_scores_are_those_of_the_plain_model(toy_suite, suite, judge, regions, monkeypatch):
    monkeypatch.setattr(scoring, "_AT_ONCE", 16)  # several parts
    scores = score_pairs(judge, suite, regions, batch_size=8, device=CPU)
    assert {way: found.shape for way, found in scores.items()} == dict.fromkeys((OWN, NONE, OTHER, WORDS), (40, 2))
    model, sources = load_model(toy_suite.model), Sources(judge.texts, regions)
    nothing = torch.zeros(0, dtype=torch.int64)
    for number in (0, 17, 39):
        own = ImageRows.from_regions(regions[suite.image_ids[number]])
        for column, text in enumerate(suite.pairs[number].captions):
            for way, image in ((OWN, own), (NONE, blank(regions))):
                inputs = sources.pad([judge.encode(text)], [image])
                with torch.no_grad():
                    wanted = model(text_targets=nothing, region_targets=nothing, **inputs).match_logits.item()
                np.testing.assert_allclose(scores[way][number, column], wanted, atol=5e-5)
    assert (scores[OTHER] != scores[OWN]).any(1).all()


def test_the_likelihood_hides_one_piece_at_a_time(toy_suite, suite, judge, regions):
    scores = score_pairs(judge, suite, regions, batch_size=8, device=CPU)
    model, sources = load_model(toy_suite.model), Sources(judge.texts, regions)
    for number in (3, 20):
        for column, text in enumerate(suite.pairs[number].captions):
            ids = judge.encode(text).token_ids
            likelihood = 0.0
            for place in range(1, len(ids) - 1):
                hidden = np.where(np.arange(len(ids)) == place, judge.texts.mask, ids)
                inputs = sources.pad([TokenizedText(hidden, np.zeros_like(hidden))], [blank(regions)])
                with torch.no_grad():
                    output = model(text_targets=torch.tensor([place]), region_targets=torch.zeros(0).long(), **inputs)
                likelihood += output.vocabulary_logits[0].log_softmax(0)[ids[place]].item()
            np.testing.assert_allclose(scores[WORDS][number, column], likelihood, rtol=1e-4)


def test_words_alone_tell_nothing_of_twins(suite, judge, regions):
    scores = score_pairs(judge, suite, regions, batch_size=64, device=CPU)
    for way in (NONE, WORDS):
        assert (scores[way][:, 0] > scores[way][:, 1]).sum() == len(suite.pairs) / 2


def test_another_image_is_another_part_of_an_image_too(judge, regions, suite, monkeypatch):
    """The same picture with two parts: each pair is shown with the part of the other."""
    shown = []
    monkeypatch.setattr(scoring, "_read_view", lambda view, _: shown.append(view) or blank(regions))
    pairs = tuple(replace(pair, crop=(0, 0, x, 100)) for pair, x in zip(suite.pairs[:2], (100, 200), strict=True))
    score_pairs(replace(judge, pretrained=None), OpenSuite(pairs, ("1", "1"), 0, 0), regions, batch_size=2, device=CPU)
    first, second = (("1", pair.crop) for pair in pairs)
    assert sorted(map(str, shown)) == sorted(map(str, [first, second, None, None, second, first]))


def test_one_image_has_no_other(judge, regions, suite):
    one = OpenSuite(suite.pairs[:1], suite.image_ids[:1], 0, 0)
    assert OTHER not in score_pairs(judge, one, regions, batch_size=2, device=CPU)


def test_a_fine_tuned_model_has_no_likelihoods(trained, suite, regions):
    judge = load_judge(trained[0], CPU)
    scores = score_pairs(judge, suite, regions, batch_size=64, device=CPU)
    assert set(scores) == {OWN, NONE, OTHER}
    assert judge.max_text == 32


def test_regions_of_a_part_of_an_image():
    boxes = np.float32([[0, 0, 40, 40], [35, 20, 65, 40], [45, 20, 85, 60], [60, 60, 90, 90]])
    row = RegionsRow("1", 100, 100, Regions(boxes, np.arange(8).reshape(4, 2).astype(np.float16)))
    part = crop_regions(row, (50, 10, 120, 50))
    # The second box lies in the part by half, the third by more.
    assert part.regions.boxes.tolist() == [[0, 10, 15, 30], [0, 10, 35, 40]]
    assert part.regions.features.tolist() == [[2, 3], [4, 5]]
    assert (part.width, part.height) == (50, 40)
    part.regions.check(part.width, part.height)
    empty = crop_regions(row, (95, 0, 100, 5))
    assert len(empty.regions.boxes) == 0
    assert len(ImageRows.from_regions(empty).features) == 1


def test_images_are_found_by_the_names_of_their_files(tmp_path, regions):
    (tmp_path / "own.csv").write_text(
        "image,caption,negative_caption\n000000000003.png,a,b\n5,a,b\nCOCO_val2014_000000000007.jpg,a,b\nnone.jpg,a,b\n"
    )
    suite = open_suite(tmp_path / "own.csv", regions, skip_missing_images=True)
    assert suite.image_ids == ("3", "5", "7")
    assert suite.without_regions == 1
    with pytest.raises(InputError, match=r"images of 1 of 4 pairs, e\.g\. none\.jpg; .*--skip-missing-images"):
        open_suite(tmp_path / "own.csv", regions, skip_missing_images=False)
    (tmp_path / "own.csv").write_text("image,caption,negative_caption\nnone.jpg,a,b\n")
    with pytest.raises(InputError, match="images of 1 of 1 pair"):
        open_suite(tmp_path / "own.csv", regions, skip_missing_images=True)
