import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step_costs import FORWARD, INPUTS, WEIGHTS, Product, Stopwatch


def test_a_stopwatch_tells_the_multiplications_of_a_step_apart():
    layer, inputs = nn.Linear(5, 7), torch.randn(3, 5, requires_grad=True)
    with Stopwatch() as watch:
        layer(inputs).square().sum().backward()
    assert watch.calls == {
        Product(FORWARD, 3, 5, 7): 1,
        Product(INPUTS, 3, 7, 5): 1,
        Product(WEIGHTS, 7, 3, 5): 1,
    }
    assert all(watch.products[product] == watch.kinds[product.kind] > 0 for product in watch.calls)
    with FlopCounterMode(display=False) as counter:
        layer(inputs).square().sum().backward()
    assert watch.flops == counter.get_total_flops()
