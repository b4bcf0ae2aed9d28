"""Operations of a profile belong to the modules that they were called in, also those of the backward pass."""

import json
from collections import Counter

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pretrain.training.profiling import Operation, label_modules, time_operations


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, states):
        return self.inner(states).relu()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(64), Layer(64)])
        self.head = nn.Linear(64, 1)

    def forward(self, states):
        for layer in self.layers:
            states = layer(states)
        return self.head(states).sum()


def watched(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with label_modules(model), profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        for _ in range(steps):
            model(torch.randn(32, 64)).backward()
            optimizer.step()
    return time_operations(found.events(), cuda=False)


def test_each_operation_is_found_under_its_module():
    model = Model()
    spent, calls = watched(model, 3)
    assert spent.keys() == calls.keys()
    assert all(time > 0 for time in spent.values())
    assert calls[Operation("layers.*.inner", "forward", "aten::addmm")] == 2 * 3
    assert calls[Operation("layers.*", "forward", "aten::relu")] == 2 * 3
    assert calls[Operation("head", "forward", "aten::addmm")] == 3
    # The gradients of the weight and of the states; the first layer's states need none.
    assert calls[Operation("layers.*.inner", "backward", "aten::mm")] == 3 * 3
    assert calls[Operation("layers.*", "backward", "aten::threshold_backward")] == 2 * 3
    assert any(operation.phase == "optimiser" for operation in calls)
    assert not any(
        operation.phase == "forward" and not operation.module and operation.name == "aten::addmm" for operation in calls
    )


def test_the_model_is_left_as_it_was():
    model = Model()
    watched(model, 1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_takes_the_time_is_shown_by_module(runs):
    printed = runs.start("profiled", "steps=6", "profile={start: 2, steps: 9}").succeed()  # the run ends before
    assert "4 steps: the 10 operations that took most CPU time" in printed
    assert "optimiser" in printed
    trace = json.loads((runs.folder / "profiled/profile/rank-0.json").read_text())
    names = Counter(event.get("name") for event in trace["traceEvents"])
    assert names["module: ernie_vil.text_layers.0.attention.query"] == 4
    assert names["Optimizer.step#AdamW.step"] == 4
