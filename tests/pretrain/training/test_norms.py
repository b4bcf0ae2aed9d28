"""Norms of layers: which layers there are, and what is left of a pass."""

import pytest
import torch
from torch import nn

from pretrain.training.norms import Norms


class Pair(nn.Module):
    """Two outputs, as a co-layer has."""

    def forward(self, states):
        return states, 2 * states


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), Pair()])

    def forward(self, states):
        return self.layers[1](self.layers[0](states))


def test_each_output_of_a_layer_leaves_its_root_mean_square():
    model, states = Model(), torch.randn(4, 3)
    norms = Norms(model)
    with norms.watch_activations(watch=True) as found:
        first, second = model(states)
    assert found.keys() == {"activation/layers.0", "activation/layers.1.0", "activation/layers.1.1"}
    assert found["activation/layers.0"].item() == pytest.approx(first.square().mean().sqrt().item())
    assert found["activation/layers.1.1"].item() == pytest.approx(second.square().mean().sqrt().item())


def test_nothing_is_watched_unless_asked_for_and_afterwards():
    model = Model()
    norms = Norms(model)
    with norms.watch_activations(watch=False) as found:
        model(torch.randn(4, 3))
    assert not found
    assert not any(module._forward_hooks for module in model.modules())
