"""Evaluation on held-out shards."""

import json

import pytest
import torch

from pretrain.evaluation import evaluate
from pretrain.model.heads import PretrainingOutput
from pretrain.recipe import OBJECTIVES, PretrainRecipe
from pretrain.training.distributed import DistributedContext
from shards.reader import ShardSet
from tests.pretrain.runs import MODEL

ALONE = DistributedContext(0, 1, torch.device("cpu"))


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    values = {"model": tmp_path / "model.json", "steps": 1, "batch_size": 7, "max_text": 16}
    return PretrainRecipe.model_validate(values | {"masking": {"region": 0.5}})


class Constant:
    """Predicts the same whatever it is shown, and keeps that."""

    def __init__(self, regions):
        self.regions = regions
        self.seen = []

    def __call__(self, *, text_targets, region_targets, token_ids, features, **rest):
        self.seen.append((token_ids.tolist(), features.tolist(), text_targets.tolist(), region_targets.tolist()))
        regions = self.regions.expand(len(region_targets), -1)
        return PretrainingOutput(
            torch.zeros(len(text_targets), 50), regions, torch.zeros(len(token_ids)), torch.zeros(0)
        )


class Apart(DistributedContext):
    """A rank that hears nothing of the others."""

    def all_reduce(self, tensor):
        return tensor


def test_masks_do_not_change_between_evaluations_and_runs(shard_folder, recipe):
    found = []
    for seed in (0, 0, 5):
        model = Constant(torch.zeros(6))
        changed = recipe.model_copy(update={"seed": seed})
        results = evaluate(model, ShardSet(shard_folder), changed, images="own", world=ALONE)
        found.append((model.seen, results))
    assert found[0] == found[1] == found[2]
    assert set(found[0][1]) == set(OBJECTIVES[:6]), "nothing asks for false words"


def test_each_rank_scores_its_share_of_the_same_pairs(shards, recipe):
    whole, parts = Constant(torch.zeros(6)), Constant(torch.zeros(6))
    evaluate(whole, shards, recipe, images="own", world=ALONE)
    for rank in range(3):
        evaluate(parts, shards, recipe, images="own", world=Apart(rank, 3, ALONE.device))
    assert sum(len(s[2]) for s in parts.seen) == sum(len(s[2]) for s in whole.seen)


def test_objectives_are_scored_apart(shards, recipe):
    only = recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"object": 0.0, "region": 0.0})})
    assert set(evaluate(Constant(torch.zeros(6)), shards, only, images="own", world=ALONE)) == {
        "attribute", "relation", "word", "match",
    }  # fmt: skip
    for images in ("other", "none"):
        results = evaluate(Constant(torch.zeros(6)), shards, recipe, images=images, world=ALONE)
        assert set(results) == {"object", "attribute", "relation", "word"}


def test_no_constant_beats_guessing(shards, recipe):
    # The classes of the tests' regions are all about as frequent, so a constant comes near, but not below.
    for target, width in (("distribution", 6), ("argmax", 6), ("features", 8)):
        changed = recipe.model_copy(update={"region_target": target})
        for offset in (0.0, 0.2):
            regions = torch.linspace(-offset, offset, width)
            result = evaluate(Constant(regions), shards, changed, images="own", world=ALONE)["region"]
            assert result.guess_loss <= result.loss
            assert result.loss < result.guess_loss + 0.3
            assert (result.accuracy is None) == (result.guess_accuracy is None) == (target == "features")
            assert all(value is not None for value in result.to_dict().values())
