"""What a model size costs, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pretrain.config import ModelConfig
from pretrain.model.encoder import ErnieViL


@dataclass
class Cost:
    """What one module adds to a training step."""

    name: str
    parameters: int
    flops: int = 0
    """multiplications and additions of the forward pass"""
    saved_bytes: int = 0
    """activations kept for the backward pass"""


def costs(config: ModelConfig, *, batch: int, text: int, rows: int, dtype: torch.dtype = torch.float32) -> list[Cost]:
    """The embeddings, layers and poolers of the encoder in the order in which data passes them.

    Nothing is allocated or computed: the pass runs on the meta device. Attention probabilities are counted as saved,
    which a fused kernel avoids.

    Args:
        batch: samples.
        text: text positions of a sample.
        rows: image rows of a sample, the global one included.
        dtype: of parameters and activations.
    """
    return costs_of(meta_encoder(config, dtype), batch=batch, text=text, rows=rows)


def meta_encoder(config: ModelConfig, dtype: torch.dtype) -> ErnieViL:
    """An encoder without weights."""
    with torch.device("meta"):
        return ErnieViL(config).to(dtype)


def costs_of(model: ErnieViL, *, batch: int, text: int, rows: int) -> list[Cost]:
    """The same for a `meta_encoder`, which takes longer to make than to use."""
    dtype = model.text_embeddings.word.weight.dtype
    with torch.device("meta"):
        inputs = {
            "token_ids": torch.zeros(batch, text, dtype=torch.long),
            "position_ids": torch.zeros(batch, text, dtype=torch.long),
            "segment_ids": torch.zeros(batch, text, dtype=torch.long),
            "text_mask": torch.ones(batch, text, dtype=torch.bool),
            "features": torch.zeros(batch, rows, model.config.v_feature_size, dtype=dtype),
            "locations": torch.zeros(batch, rows, 5, dtype=dtype),
            "image_mask": torch.ones(batch, rows, dtype=torch.bool),
        }
    found: list[Cost] = []
    with FlopCounterMode(display=False) as counter, _watched(model, counter, found):
        model(**inputs)
    return found


@contextmanager
def _watched(model: ErnieViL, counter: FlopCounterMode, found: list[Cost]) -> Iterator[None]:
    """Adds a cost for each unit as it is called; what autograd saves meanwhile is that unit's."""
    parameters = {id(parameter) for parameter in model.parameters()}
    seen: set[int] = set()
    kept: list[Tensor] = []  # so that no two saved tensors share an id
    before = 0

    def begin(name: str, unit: nn.Module) -> None:
        nonlocal before
        before = counter.get_total_flops()
        found.append(Cost(name, sum(parameter.numel() for parameter in unit.parameters())))

    def end() -> None:
        found[-1].flops = counter.get_total_flops() - before

    def save(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if found and id(base) not in parameters and id(base) not in seen:
            seen.add(id(base))
            kept.append(base)
            found[-1].saved_bytes += base.numel() * base.element_size()
        return tensor

    handles: list[Any] = []
    for name, unit in _units(model):
        handles.append(unit.register_forward_pre_hook(lambda unit, _inputs, name=name: begin(name, unit)))
        handles.append(unit.register_forward_hook(lambda *_: end()))
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        yield
    for handle in handles:
        handle.remove()


def _units(model: ErnieViL) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{i}", layer) for i, layer in enumerate(child))
        else:
            yield name, child
