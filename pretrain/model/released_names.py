"""The parameter names of the released Paddle checkpoints, and weights in that form into and out of the model.

A released fc weight is stored [in, out], the transpose of `torch.nn.Linear.weight`; nothing else differs but the name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL

_SINGLE = {
    "text_embeddings.word": "word_embedding",
    "text_embeddings.position": "pos_embedding",
    "text_embeddings.segment": "sent_embedding",
    "text_embeddings.norm": "pre_encoder_layer_norm",
    "image_embeddings.feature": "image_emb",
    "image_embeddings.location": "image_loc",
    "image_embeddings.norm": "vl_pre_encoder_layer_norm",
    "text_pooler": "pooled_fc_text",
    "image_pooler": "pooled_fc_image",
}
_STACKS = {
    "text_layers": "encoder_layer",
    "image_layers": "encoder_vlayer",
    "co_layers": "encoder_colayer",
}
_LAYER_PARTS = {
    "attention.query": "multi_head_att_query_fc",
    "attention.key": "multi_head_att_key_fc",
    "attention.value": "multi_head_att_value_fc",
    "attention.output": "multi_head_att_output_fc",
    "attention_norm": "post_att_layer_norm",
    "feed_forward.expand": "ffn_fc_0",
    "feed_forward.contract": "ffn_fc_1",
    "feed_forward_norm": "post_ffn_layer_norm",
}
_IN_LAYER = re.compile(r"(?P<stack>\w+_layers)\.(?P<index>\d+)\.(?:(?P<side>text|image)\.)?(?P<part>.+)")


def released_name(name: str) -> str:
    """Returns the released name of a parameter of `ErnieViL`.

    ``co_layers.0.image.attention.query.weight`` is ``encoder_colayer_0_vl_multi_head_att_query_fc.w_0``.

    Raises:
        ValueError: the model has no such parameter.
    """
    module, _, kind = name.rpartition(".")
    released = _released_module(module)
    if released is None or kind not in ("weight", "bias"):
        raise ValueError(f"{name} is not a parameter of ErnieViL, so it has no released name")
    if released.endswith("_embedding"):
        return released
    if released.endswith("_layer_norm"):
        return released + {"weight": "_scale", "bias": "_bias"}[kind]
    return released + {"weight": ".w_0", "bias": ".b_0"}[kind]


def released_arrays(model: ErnieViL) -> dict[str, NDArray[np.float32]]:
    """Returns all parameters of the model by their released names; fc weights are [in, out]."""
    arrays = {}
    for name, parameter in model.named_parameters():
        released = released_name(name)
        array = parameter.detach().float().cpu().numpy()
        arrays[released] = np.array(array.T if _is_transposed(released) else array, order="C")
    return arrays


def released_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the released names and shapes of a model's parameters; allocates none of them."""
    with torch.device("meta"):
        parameters = ErnieViL(config).named_parameters()
    named = ((released_name(name), tuple(parameter.shape)) for name, parameter in parameters)
    return {name: shape[::-1] if _is_transposed(name) else shape for name, shape in named}


def load_released(
    model: ErnieViL, arrays: Mapping[str, NDArray[np.generic]], *, may_miss: Collection[str] = ()
) -> tuple[str, ...]:
    """Copy released weights into the model, all or nothing.

    Args:
        model: receives the weights, on its own device and in its own dtype.
        arrays: released names and arrays, fc weights [in, out].
        may_miss: released names that the arrays need not hold and that keep their values (a RefCOCO+ checkpoint,
            for example, has no poolers).

    Returns:
        The names in ``arrays`` that belong to no parameter of the model (task heads, optimiser state), sorted.

    Raises:
        InputError: parameters are missing or their shapes differ; names every one of them. The model is unchanged.
    """
    parameters = {released_name(name): parameter for name, parameter in model.named_parameters()}
    problems = [f"{name}: missing" for name in sorted(parameters.keys() - arrays.keys() - set(may_miss))]
    weights: dict[str, NDArray[np.generic]] = {}
    for name in parameters.keys() & arrays.keys():
        weights[name] = arrays[name].T if _is_transposed(name) else arrays[name]
        expected = tuple(parameters[name].shape)
        if weights[name].shape != expected:
            stored = expected[::-1] if _is_transposed(name) else expected
            problems.append(f"{name}: the model needs shape {stored}, the checkpoint has {arrays[name].shape}")
    if problems:
        listed = "".join(f"\n  {problem}" for problem in sorted(problems))
        raise InputError(
            f"the released weights do not fit the model; load them with the configuration they came with:{listed}"
        )
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(torch.tensor(weight))
    return tuple(sorted(arrays.keys() - parameters.keys()))


def _released_module(module: str) -> str | None:
    """Returns the released prefix that the weight and the bias of a module share; None if it has none."""
    if module in _SINGLE:
        return _SINGLE[module]
    found = _IN_LAYER.fullmatch(module)
    if found is None or found["stack"] not in _STACKS or found["part"] not in _LAYER_PARTS:
        return None
    if (found["side"] is not None) != (found["stack"] == "co_layers"):  # only co-layers have two sides
        return None
    side = "vl_" if found["side"] == "image" else ""
    return f"{_STACKS[found['stack']]}_{found['index']}_{side}{_LAYER_PARTS[found['part']]}"


def _is_transposed(released: str) -> bool:
    return released.endswith(".w_0")
