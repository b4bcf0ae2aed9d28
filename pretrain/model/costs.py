"""The costs of a model size: parameters, FLOPs and memory, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from shards.schema import Array


@dataclass
class Cost:
    """The costs that one module adds to a training step."""

    name: str
    parameters: int
    flops: int = 0
    """multiplications and additions of the forward pass"""
    saved_bytes: int = 0
    """activations kept for the backward pass"""
    output_bytes: int = 0
    """size of what the module returns, which is all that gradient checkpointing keeps of a layer"""


def count_costs(
    config: ModelConfig, *, batch: int, text: int, rows: int, dtype: torch.dtype = torch.float32
) -> list[Cost]:
    """Returns the costs of the encoder's embeddings, layers and poolers, in the order in which data passes them.

    Args:
        config: size of the model.
        batch: samples.
        text: text positions of a sample.
        rows: image rows of a sample, the global one included.
        dtype: of parameters and activations.
    """
    return Costing(config, dtype).of(batch=batch, text=text, rows=rows)


class Costing:
    """Measures one size of the encoder on a device. The device need not exist: nothing is allocated or computed.

    Attention is counted as a fused kernel computes it, which keeps no probabilities.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: str = "cuda") -> None:
        self._config, self._dtype, self._device = config, dtype, device
        self._mode = FakeTensorMode()
        with self._mode, torch.device(device), _default(dtype):
            self._encoder = ErnieViL(config)

    def of(self, *, batch: int, text: int, rows: int) -> list[Cost]:
        """Returns the cost of each unit; the arguments are those of `count_costs`."""
        found: list[Cost] = []
        counter = FlopCounterMode(display=False)
        with self._mode, torch.device(self._device), _fused_attention():
            inputs = {
                "token_ids": torch.zeros(batch, text, dtype=torch.long),
                "position_ids": torch.zeros(batch, text, dtype=torch.long),
                "segment_ids": torch.zeros(batch, text, dtype=torch.long),
                "text_mask": torch.ones(batch, text, dtype=torch.bool),
                "features": torch.zeros(batch, rows, self._config.v_feature_size, dtype=self._dtype),
                "locations": torch.zeros(batch, rows, 5, dtype=self._dtype),
                "image_mask": torch.ones(batch, rows, dtype=torch.bool),
            }
            with counter, _watched(self._encoder, counter, found):
                self._encoder(**inputs)
        return found


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Makes attention CUDA's flash kernel inside the context. Without a GPU, PyTorch would choose an unfused one."""

    def fused(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, dropout_p: float) -> Tensor:
        del attn_mask  # one row for each sample, which counts for nothing
        attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p)[0]
        return attended

    with patch.object(F, "scaled_dot_product_attention", fused):
        yield


@contextmanager
def _watched(model: ErnieViL, counter: FlopCounterMode, found: list[Cost]) -> Iterator[None]:
    """Adds a cost for each unit when it is called inside the context; what autograd saves meanwhile is the unit's."""
    parameters = {id(parameter) for parameter in model.parameters()}
    seen: set[int] = set()
    kept: list[Tensor] = []  # so that no two saved tensors share an id
    before = 0

    def begin(name: str, unit: nn.Module) -> None:
        nonlocal before
        before = counter.get_total_flops()
        found.append(Cost(name, sum(parameter.numel() for parameter in unit.parameters())))

    def end(output: Tensor | tuple[Tensor, ...]) -> None:
        found[-1].flops = counter.get_total_flops() - before
        states = output if isinstance(output, tuple) else (output,)
        found[-1].output_bytes = sum(tensor.numel() * tensor.element_size() for tensor in states)

    def save(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if found and id(base) not in parameters and id(base) not in seen:
            seen.add(id(base))
            kept.append(base)
            found[-1].saved_bytes += base.numel() * base.element_size()
        return tensor

    handles: list[RemovableHandle] = []
    for name, unit in _units(model):
        handles.append(unit.register_forward_pre_hook(lambda unit, _inputs, name=name: begin(name, unit)))
        handles.append(unit.register_forward_hook(lambda _unit, _inputs, output: end(output)))
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


@dataclass(frozen=True, slots=True)
class PairCosts:
    """FLOPs of the forward pass and bytes kept for the backward pass, for one pair of T text positions and R rows.

    Both are polynomials in T and R: what is done for each position is linear, attention scores are quadratic.
    """

    flops: Array
    """float64 [6]: coefficients of 1, T, R, T², R², TR"""
    saved_bytes: Array

    @classmethod
    def of(cls, config: ModelConfig, dtype: torch.dtype, *, checkpointing: bool = False) -> PairCosts:
        """Solves for the six coefficients with the costs of the encoder at six lengths.

        Args:
            config: size of the model.
            dtype: of weights and activations.
            checkpointing: whether only the output of layers is kept, and the inside of the one that is computed again.
        """
        lengths = [(8, 8), (16, 8), (24, 8), (8, 16), (8, 24), (16, 16)]
        costing = Costing(config, dtype)
        measured = []
        for text, rows in lengths:
            found = costing.of(batch=1, text=text, rows=rows)
            saved = [cost.saved_bytes for cost in found]
            kept = sum(cost.output_bytes for cost in found) + max(saved) if checkpointing else sum(saved)
            measured.append([sum(cost.flops for cost in found), kept])
        powers = _powers(*np.array(lengths, np.float64).T)
        flops, saved_bytes = np.linalg.solve(powers, np.array(measured, np.float64)).T
        return cls(flops, saved_bytes)

    def flops_at(self, samples: Array, text_length: Array, image_length: Array) -> Array:
        """Returns the FLOPs of the forward pass of micro-batches of these sizes; all arrays have one shape."""
        found: Array = samples * (_powers(text_length, image_length) @ self.flops)
        return found

    def saved_bytes_at(self, samples: Array, text_length: Array, image_length: Array) -> Array:
        """Returns the bytes kept for the backward pass of such micro-batches; all arrays have one shape."""
        found: Array = samples * (_powers(text_length, image_length) @ self.saved_bytes)
        return found


def _powers(text: Array, image: Array) -> Array:
    return np.stack([np.ones_like(text), text, image, text**2, image**2, text * image], axis=-1)
