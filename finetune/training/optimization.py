"""The optimiser of the released fine-tuning, made of `torch.optim.AdamW`: Adam with layer-wise decay and weight decay.

Each parameter group has a ``scale`` of the learning rate. Everything else that changes during training follows from the
step alone (`prepare_step`), so a checkpoint needs no state beside the step, and DeepSpeed and ZeRO take the optimiser
as they take any AdamW. The released code clips the gradient to ``FineTuneOptimizer.clip`` before each step.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from finetune.heads import TaskHead
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import released_name
from pretrain.training.settings import OptimizerSection

EPSILON = 1e-8
"""Added to the root of the second moment."""


class FineTuneOptimizer(OptimizerSection):
    """The section ``optimizer`` of a fine-tuning recipe. Steps are counted from 0."""

    schedule: Literal["steps", "linear", "noam"] = "steps"
    """how the learning rate falls after the warm-up: in steps, linearly to 0 at the last step, or with the inverse
    square root of the step. Without a warm-up it is constant, whatever the schedule, as in the released code"""
    decay_steps: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """the schedule ``steps`` multiplies the learning rate by ``decay_ratio`` at each of these steps"""
    decay_ratio: Annotated[float, Field(gt=0)] = 0.1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """factor of the learning rate from each layer to the one below it"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay rates of the first and of the second moment"""

    @model_validator(mode="after")
    def _check_decay_steps(self) -> FineTuneOptimizer:
        if list(self.decay_steps) != sorted(set(self.decay_steps)):
            raise ValueError(f"decay_steps {list(self.decay_steps)} does not increase; list each step once")
        if self.decay_steps and self.schedule != "steps":
            raise ValueError(f"decay_steps has no effect with the schedule {self.schedule!r}; remove one of the two")
        return self

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Returns the learning rate of a step in a run of ``steps`` steps."""
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


def group_parameters(model: ErnieViL, head: TaskHead, settings: FineTuneOptimizer) -> list[dict[str, object]]:
    """Groups the parameters by learning rate and weight decay, for `torch.optim.AdamW`.

    Layer norms and biases have no weight decay. The released code finds them by the suffixes of their names; it does
    not recognise the biases of the VQA head, so these have weight decay as well.

    AdamW multiplies the weight decay of a group with its learning rate, ``scale`` included. The released code does not
    scale weight decay by layer, so it is divided by ``scale`` here.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = settings.layer_decay ** count_layers_above(name, model.config)
        groups.setdefault((scale, _has_decay(released_name(name))), []).append(parameter)
    for name, parameter in head.named_parameters():
        decays = _has_decay(head.released[name]) if name in head.released else parameter.ndim > 1
        groups.setdefault((1.0, decays), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": decays * settings.weight_decay / scale}
        for (scale, decays), parameters in groups.items()
    ]


def count_layers_above(name: str, config: ModelConfig) -> int:
    """Counts the layers from a parameter of `ErnieViL` to the end of its stream, the parameter's own layer included.

    The two halves of a co-layer count as a layer of the text stream and a layer of the image stream. For an embedding
    the count is all layers and one more. For poolers and the layer norms of the embeddings it is 0, because the
    released code does not lower their learning rate.

    Example: three text layers with ``t_biattention_id`` (1, 2) make the text stream text layer 0, co-layer 0, text
        layer 1, co-layer 1, text layer 2. The counts are 5, 4, 3, 2 and 1, and 6 for the word embedding.
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
    """Sets the learning rate and the epsilon of AdamW for a step, counted from 0, so that it does what Paddle's Adam
    does.

    Paddle adds epsilon before it corrects the bias of the second moment, and AdamW adds it afterwards. So AdamW gets an
    epsilon with the same correction. This matters for parameters with tiny gradients, such as the biases of the keys.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
        group["eps"] = EPSILON / math.sqrt(1 - group["betas"][1] ** (step + 1))


def _has_decay(released: str) -> bool:
    return not ("layer_norm" in released or released.endswith(("_bias", "_b", ".b_0")))
