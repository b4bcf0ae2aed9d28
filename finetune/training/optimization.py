"""The optimiser of the released fine-tuning (Adam, layer-wise decay, weight decay) in terms of `torch.optim.AdamW`.

Each parameter group carries its own ``scale`` of the learning rate; `prepare_step` sets the rest from the step alone.
So nothing but the step needs to be saved, and whatever takes an AdamW (DeepSpeed, ZeRO) will do. Clip the gradient to
``Optimizer.clip`` before the step, as the released code does.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from finetune.heads import TaskHead
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import released_name
from pretrain.training.settings import OptimizerSection

EPSILON = 1e-8


class Optimizer(OptimizerSection):
    """The optimiser section of a fine-tuning recipe. Steps are counted from 0."""

    schedule: Literal["steps", "linear", "noam"] = "steps"
    """after the warm-up: in steps, linear to 0 at the last step, or with the inverse square root of the step; without a
    warm-up the learning rate is constant, whatever the schedule, as in the released code"""
    decay_steps: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """``steps`` multiplies the learning rate by ``decay_ratio`` at each of these"""
    decay_ratio: Annotated[float, Field(gt=0)] = 0.1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """factor of the learning rate from each layer to the one below it"""
    betas: tuple[float, float] = (0.9, 0.999)

    @model_validator(mode="after")
    def _check_decay_steps(self) -> Optimizer:
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise ValueError(f"decay_steps {list(self.decay_steps)} does not increase; list each step once")
        if self.decay_steps and self.schedule != "steps":
            raise ValueError(f"decay_steps has no effect with the schedule {self.schedule!r}; remove one of the two")
        return self

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, in a run of ``steps`` steps."""
        warmup = self.warmup_steps
        if warmup == 0:
            return self.learning_rate
        if self.schedule == "noam":  # the one schedule that does not begin at 0
            return self.learning_rate * min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))
        if step < warmup:
            return self.learning_rate * step / warmup
        if self.schedule == "linear":  # falls from step 0, so it jumps where the warm-up ends
            return self.learning_rate * (1 - min(step, steps) / steps)
        return self.learning_rate * self.decay_ratio ** sum(step >= decay for decay in self.decay_steps)


def parameter_groups(model: ErnieViL, head: TaskHead, settings: Optimizer) -> list[dict[str, Any]]:
    """The parameters by learning rate and weight decay, for `torch.optim.AdamW`.

    Layer norms and biases are not decayed, by the released rule on released names: the biases of the VQA head end in no
    suffix that it knows, so they are. Weight decay is not scaled by the layer: it is divided here by what AdamW
    multiplies it with.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = settings.layer_decay ** layers_above(name, model.config)
        groups.setdefault((scale, _decays(released_name(name))), []).append(parameter)
    for name, parameter in head.named_parameters():
        decays = _decays(head.released[name]) if name in head.released else parameter.ndim > 1
        groups.setdefault((1.0, decays), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": decays * settings.weight_decay / scale}
        for (scale, decays), parameters in groups.items()
    ]


def layers_above(name: str, config: ModelConfig) -> int:
    """How many layers of its stream the states still pass from a parameter of `ErnieViL` on, its own layer included.

    The two halves of a co-layer are a layer of the text stream and one of the image stream. An embedding has all layers
    and one more. Poolers and the layer norms of the embeddings count none: the released code does not slow them down.
    """
    part, _, rest = name.partition(".")
    index = int(rest.partition(".")[0]) if part.endswith("_layers") else 0
    text = part.startswith("text_") or rest.startswith(f"{index}.text.")
    layers, met = (
        (config.num_text_layers, config.t_biattention_id)
        if text
        else (config.num_image_layers, config.v_biattention_id)
    )
    if part.endswith("_embeddings"):
        return 0 if rest.startswith("norm.") else layers + len(met) + 1
    if part == "co_layers":
        return layers - met[index] + len(met) - index
    if part.endswith("_layers"):
        return layers - index + sum(end > index for end in met)
    return 0


def prepare_step(optimizer: torch.optim.Optimizer, step: int, learning_rate: float) -> None:
    """Set what AdamW takes for a step, counted from 0, to do what Paddle's Adam does.

    Paddle adds epsilon before it corrects the second moment's bias, so AdamW gets an epsilon that is corrected too. It
    matters for parameters with tiny gradients, such as the biases of the keys.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
        group["eps"] = EPSILON / math.sqrt(1 - group["betas"][1] ** (step + 1))


def _decays(released: str) -> bool:
    return not ("layer_norm" in released or released.endswith(("_bias", "_b", ".b_0")))
