"""What DeepSpeed is told of a recipe."""

import pytest

from pretrain.recipe import PretrainRecipe
from pretrain.training.engine import make_deepspeed_config


@pytest.mark.parametrize(
    ("changes", "clip", "stage", "offload"),
    [
        ({}, 0.0, 0, False),  # the trainer clips
        ({"zero_stage": 2}, 0.5, 2, False),
        ({"precision": "bf16"}, 0.5, 0, False),
        ({"zero_stage": 3, "offload_optimizer": True}, 0.5, 3, True),
    ],
)
def test_the_gradient_is_clipped_in_one_place(changes, clip, stage, offload):
    values = {"model": "m.json", "steps": 3, "batch_size": 4, "optimizer": {"clip": 0.5}, "accumulation": 3}
    found = make_deepspeed_config(PretrainRecipe.model_validate(values | changes), load_universal=offload)
    assert found["gradient_clipping"] == clip
    assert found["gradient_accumulation_steps"] == 3
    assert found["zero_optimization"]["stage"] == stage
    assert ("offload_optimizer" in found["zero_optimization"]) == offload
    assert found["checkpoint"] == {"load_universal": offload}
    assert found["bf16"]["enabled"] == (changes.get("precision") == "bf16")
