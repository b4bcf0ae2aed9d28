"""The recipe of pretraining."""

import pytest

from pretrain.recipe import PretrainRecipe


def recipe_of(**options):
    return PretrainRecipe.model_validate({"model": "model.json", "steps": 1} | options)


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 4, "tokens": 100}])
def test_a_recipe_has_one_kind_of_batch(sizes):
    with pytest.raises(ValueError, match="give one of batch_size"):
        recipe_of(**sizes)
