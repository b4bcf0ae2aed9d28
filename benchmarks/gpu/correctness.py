"""The model on the device beside the same model on the CPU in float32: outputs, losses, gradients, optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.generated import recipe, shard_set
from benchmarks.gpu.steps import Findings, Setting
from pretrain.data.batches import Collator, PretrainBatch, StepDataset
from pretrain.data.order import BatchPlan
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.objectives import count_targets, score
from pretrain.recipe import PretrainRecipe, model_config
from shards.reader import ShardSet

STEPS, PAIRS = 3, 4
EXACT = 1e-4
"""Largest relative error in float32."""
ROUNDED = {"outputs": 4e-2, "losses": 2e-2, "gradients": 8e-2}
"""Largest relative errors in bfloat16, whose numbers have eight bits: two to three times those of a CPU."""


@dataclass(frozen=True)
class Passes:
    """The results of some training steps, on the CPU."""

    outputs: list[Tensor]
    """outputs of the first step: logits of words, predicted regions, matches"""
    losses: list[Tensor]
    """losses of every step and objective"""
    gradients: list[Tensor]
    """gradients of the first step"""
    weights: list[Tensor]
    """weights after the last step"""


def model(setting: Setting, findings: Findings, size: str) -> None:
    """Compares a model on the device with the same model on the CPU: one relative error for each kind of result."""
    size = setting.size(size)
    findings.figures["model"] = size
    shards = shard_set(setting)
    settings = recipe(size, steps=STEPS, batch_size=PAIRS)
    batches = batches_of(settings, shards, "cuda")
    torch.manual_seed(0)
    network = ErnieViLForPreTraining(model_config(settings, shards)).eval()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    exact = train(network, batches, torch.device("cpu"))

    def again(dtype: torch.dtype, steps: int) -> Passes:
        network.load_state_dict(start)
        return train(network.to(setting.device, dtype), batches[:steps], torch.device(setting.device))

    found = again(torch.float32, STEPS)
    for what in ("outputs", "losses", "gradients", "weights"):
        findings.bound(f"{what} fp32", error(getattr(found, what), getattr(exact, what)), EXACT)
    network.to(torch.device("cpu"))
    found = again(torch.bfloat16, 1)
    for what, bound in ROUNDED.items():
        wanted = getattr(exact, what)
        findings.bound(f"{what} bf16", error(getattr(found, what), wanted[: len(getattr(found, what))]), bound)


def padding(setting: Setting, findings: Findings) -> None:
    """Compares sequences that are padded to multiples of 8 with the same ones padded to the longest."""
    shards = shard_set(setting)
    settings = recipe(setting.size("base"), steps=1, batch_size=PAIRS)
    torch.manual_seed(0)
    network = ErnieViLForPreTraining(model_config(settings, shards)).eval()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = []
    for device_type in ("cpu", "cuda"):
        network.load_state_dict(start)
        batches = batches_of(settings, shards, device_type)
        lengths = batches[0].token_ids.shape[1], batches[0].features.shape[1]
        findings.figures[f"lengths for {device_type}"] = " and ".join(map(str, lengths))
        found.append(train(network.to(setting.device), batches, torch.device(setting.device)))
    for what in ("outputs", "losses", "gradients"):
        findings.bound(what, error(getattr(found[1], what), getattr(found[0], what)), EXACT)


def batches_of(settings: PretrainRecipe, shards: ShardSet, device_type: str) -> list[PretrainBatch]:
    """Returns the batches of all steps of a recipe, padded for a type of device."""
    collator = Collator.of(settings, shards, device_type)
    steps = StepDataset(BatchPlan.of(settings, shards), collator, rank=0, ranks=1, accumulation=1)
    return [batch for step in range(settings.steps or 0) for batch in steps[step]]


def train(network: ErnieViLForPreTraining, batches: Sequence[PretrainBatch], device: torch.device) -> Passes:
    """Trains some steps with AdamW, without dropout."""
    # The biases of attention's keys have no gradient but for rounding; a larger epsilon keeps its sign from deciding.
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, eps=1e-6, fused=True)
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    losses = []
    for batch in batches:
        here = batch.to(device)
        output = network(**here.inputs())
        found = score(output, here)
        torch.autograd.backward((found.loss / count_targets(here).clamp(min=1)).sum())
        losses.append(found.loss.detach().cpu())
        if not gradients:
            outputs = [output.vocabulary_logits, output.regions, output.match_logits]
            gradients = _on_cpu(parameter.grad for parameter in network.parameters() if parameter.grad is not None)
        optimizer.step()
        optimizer.zero_grad()
    return Passes(_on_cpu(outputs), losses, gradients, _on_cpu(network.parameters()))


def _on_cpu(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().float().cpu().clone() for tensor in tensors]


def error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Returns the relative error of all numbers, as one vector."""
    pairs = list(zip(found, wanted, strict=True))
    difference = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    return math.sqrt(difference / sum(float(b.double().square().sum()) for _, b in pairs))
