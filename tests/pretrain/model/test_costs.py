"""The table of a model's costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.data.division import Division
from pretrain.model.config import ModelConfig
from pretrain.model.costs import count_costs

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("size", "parameters"), [("base", 235_707_392), ("large", 565_031_936)])
def test_all_parameters_are_counted_in_the_order_of_the_data(size, parameters):
    config = ModelConfig.load(ROOT / f"configs/model/{size}.json")
    found = count_costs(config, batch=2, text=8, rows=5)
    assert sum(cost.parameters for cost in found) == parameters
    names = [cost.name for cost in found]
    assert len(set(names)) == len(names)
    first = config.t_biattention_id[0]
    assert names[: first + 3] == [
        "text_embeddings", *(f"text_layers.{i}" for i in range(first)), "image_embeddings", "co_layers.0",
    ]  # fmt: skip
    assert names[-2:] == ["text_pooler", "image_pooler"]


def test_the_flops_of_a_text_layer_are_those_of_its_matrices():
    config = ModelConfig.load(ROOT / "configs/model/base.json")
    batch, text, width = 4, 16, config.hidden_size
    layer = next(cost for cost in count_costs(config, batch=batch, text=text, rows=9) if cost.name == "text_layers.0")
    matrices = 4 * width**2 + 2 * width * 4 * width
    assert layer.flops == 2 * batch * text * matrices + 4 * batch * text**2 * width


def test_costs_grow_with_the_batch_and_shrink_with_the_type():
    config = ModelConfig.load(ROOT / "configs/model/tiny.json")
    one, two = (count_costs(config, batch=n, text=12, rows=9) for n in (1, 2))
    half = count_costs(config, batch=2, text=12, rows=9, dtype=torch.bfloat16)
    for a, b, c in zip(one, two, half, strict=True):
        assert b.flops == 2 * a.flops == c.flops
        assert a.saved_bytes < b.saved_bytes
        assert c.saved_bytes < b.saved_bytes


@pytest.mark.parametrize(("samples", "text", "rows"), [(1, 40, 8), (3, 64, 104)])
def test_the_polynomial_gives_the_costs_of_any_length(toy, pair, samples, text, rows):
    found = count_costs(toy, batch=samples, text=text, rows=rows)
    one = np.ones((1, 1, 1), np.int64)
    division = Division(one * samples, one, one, one * text, one * rows)
    assert pair.flops_at(*division.sizes).item() == pytest.approx(sum(cost.flops for cost in found), rel=1e-9)
    saved = sum(cost.saved_bytes for cost in found)
    assert pair.saved_bytes_at(*division.sizes).item() == pytest.approx(saved, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "status", "message"), [("tiny", 0, "encoder"), ("huge", 1, "neither a file nor one of base")]
)
def test_the_command(config, status, message):
    command = [sys.executable, "-m", "pretrain.model", "--size", config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert message in done.stdout + done.stderr
