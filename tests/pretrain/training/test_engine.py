"""What DeepSpeed is told of a recipe."""

import pytest
import torch

from parsers.command import InputError
from pretrain.recipe import PretrainRecipe
from pretrain.training.engine import explain_full_memory, make_deepspeed_config


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


def _allocate():
    torch.empty(1 << 50)


@pytest.mark.parametrize("error", [_allocate, lambda: bytearray(1 << 60)])
def test_full_memory_of_the_host_is_an_error_that_says_what_needs_less(error):
    levers = r"^step 3: .*accumulation.*gradient_checkpointing.*tokens.*zero_stage"
    with pytest.raises(InputError, match=levers), explain_full_memory("step 3"):
        error()


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match=r"^shapes$"), explain_full_memory("step 3"):
        raise RuntimeError("shapes")
