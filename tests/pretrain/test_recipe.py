"""The recipe of pretraining."""

import pytest

from pretrain.recipe import OBJECTIVES, REGION_TARGETS, ObjectiveWeights
from tests.pretrain.conftest import recipe_of


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 4, "tokens": 100}])
def test_a_recipe_has_one_kind_of_batch(sizes):
    with pytest.raises(ValueError, match="give one of batch_size"):
        recipe_of(**sizes)


def test_objectives_and_region_targets_are_these():
    assert OBJECTIVES == ("object", "attribute", "relation", "word", "region", "match", "token_match")
    assert tuple(ObjectiveWeights.model_fields) == OBJECTIVES
    assert REGION_TARGETS == {
        "distribution": ("distribution", "argmax", "features"),
        "top-k": ("distribution", "argmax", "features"),
        "argmax": ("argmax", "features"),
        "none": ("features",),
    }


def test_false_captions_are_asked_about_fairly_or_not_at_all():
    with pytest.raises(ValueError, match=r"negatives\.share needs masking\.whole above 0"):
        recipe_of(batch_size=4, negatives={"share": 0.5})
    with pytest.raises(ValueError, match=r"weights\.token_match needs negatives\.share above 0"):
        recipe_of(batch_size=4, weights={"token_match": 1.0})
    recipe = recipe_of(
        batch_size=4, negatives={"share": 0.5}, masking={"whole": 0.3}, weights={"match": 0, "token_match": 1}
    )
    assert (recipe.active_masking.mismatch, recipe.active_masking.whole) == (0.5, 0.3)
    other = recipe.model_copy(update={"images": "other"})
    assert (other.active_weights.token_match, other.active_masking.mismatch, other.active_masking.whole) == (0, 0, 0)


def test_what_has_no_weight_is_not_hidden():
    recipe = recipe_of(batch_size=4, weights={"object": 0, "match": 0})
    assert (recipe.active_masking.object, recipe.active_masking.mismatch, recipe.active_masking.word) == (0, 0, 0.15)
    alone = recipe_of(batch_size=4, images="none")
    assert (alone.active_weights.region, alone.active_weights.match, alone.active_weights.word) == (0, 0, 1)
    assert (alone.active_masking.region, alone.active_masking.mismatch) == (0, 0)
