"""What a run takes: length, memory and hours."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.data.division import divide
from pretrain.data.order import BatchPlan
from pretrain.model.costs import count_costs
from pretrain.simulation import (
    count_parameters,
    estimate_memory,
    hours_at_peak,
    hours_at_throughput,
    measure_run,
    read_throughput,
)
from tests.pretrain.conftest import lengths_of
from tests.pretrain.launch import Launch
from tests.pretrain.runs import RECIPE

ROOT = Path(__file__).resolve().parents[2]


TOY = ROOT / "configs/model/toy.json"


@settings(max_examples=25, deadline=None)
@given(batch_size=st.integers(1, 50), steps=st.integers(1, 60), passes=st.sampled_from([0.3, 0.5, 1, 2, 2.5]))
def test_the_samples_of_a_run_are_those_of_its_batches(shards, batch_size, steps, passes):
    plan = BatchPlan(shards, seed=3, batch_size=batch_size, block_shards=2, mismatch=0.5, passes=[passes])
    length = measure_run(steps, plan)
    assert length.samples == sum(len(plan.batch(step)) for step in range(steps))
    assert length.epochs == pytest.approx(length.samples / (passes * len(shards)))


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 50), epochs=st.integers(1, 3))
def test_equal_tokens_leave_the_length_of_epochs_as_it_is(shards, batch_size, epochs):
    plan = BatchPlan(shards, seed=3, batch_size=batch_size, block_shards=2, mismatch=0.5, equal_tokens=True)
    steps = epochs * plan.steps_per_epoch
    assert measure_run(steps, plan).samples == sum(len(plan.batch(step)) for step in range(steps)) == epochs * 37


@pytest.mark.parametrize(
    ("dtype", "stage", "weights", "gradients", "optimizer", "update"),
    [
        (torch.bfloat16, 0, 2000, 2000, 12000, 4000),
        (torch.bfloat16, 1, 2000, 2000, 3000, 1500),
        (torch.bfloat16, 2, 2000, 500, 3000, 1500),
        (torch.bfloat16, 3, 500, 500, 3000, 1500),
        (torch.float32, 0, 4000, 4000, 8000, 4000),
        (torch.float32, 1, 4000, 4000, 3000, 1000),
        (torch.float32, 2, 4000, 1000, 3000, 1000),
    ],
)
def test_the_memory_of_a_thousand_parameters_on_four_ranks(dtype, stage, weights, gradients, optimizer, update):
    found = estimate_memory(1000, stage=stage, ranks=4, dtype=dtype, activations=70)
    assert (found.weights, found.gradients, found.optimizer, found.update) == (weights, gradients, optimizer, update)
    assert found.total == weights + optimizer + found.exchange + gradients + update
    more = estimate_memory(1000, stage=stage, ranks=4, dtype=dtype, activations=10**6)
    assert more.total == weights + optimizer + more.exchange + 10**6, "activations are gone when the optimiser steps"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [4, 64])
def test_the_memory_is_what_pytorch_hands_out(tmp_path, shard_folder, batch):
    """Measured on a CPU, where dropout keeps floats and attention with dropout keeps everything: so without dropout."""
    size = json.loads(TOY.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "model.json").write_text(json.dumps(size))
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("batch_size: 6", f"batch_size: {batch}"))
    script = Path(__file__).with_name("rank.py")
    Launch([sys.executable, script, "peaks", tmp_path, shard_folder], tmp_path, 1).succeed()
    peaks = json.loads((tmp_path / "peaks.json").read_text())
    assert len(peaks) == 7
    for stage, (found, planned, exchange) in peaks.items():  # ZeRO 2 keeps its buffer now and then until the next step
        assert found == pytest.approx(planned, rel=0.1) or found == pytest.approx(planned + exchange, rel=0.1), stage


@given(
    parameters=st.integers(100, 10**10),
    ranks=st.integers(2, 4096),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_higher_stage_or_more_ranks_never_take_more(parameters, ranks, dtype):
    def totals(n):
        found = [estimate_memory(parameters, stage=s, ranks=n, dtype=dtype, activations=5) for s in range(4)]
        return [of_stage.total - of_stage.exchange for of_stage in found]

    assert totals(ranks) == sorted(totals(ranks), reverse=True)
    assert all(more <= fewer for more, fewer in zip(totals(ranks + 1), totals(ranks), strict=True))


def test_the_heads_are_counted(toy):
    encoder = sum(cost.parameters for cost in count_costs(toy, batch=1, text=8, rows=8))
    d, v = toy.hidden_size, toy.v_hidden_size
    words = d * d + d + 2 * d + toy.vocab_size  # the output matrix is the word embedding
    regions = v * v + v + 2 * v + v * toy.class_size + toy.class_size
    assert count_parameters(toy) == encoder + words + regions + toy.co_hidden_size + 1


def test_hours(pair):
    assert hours_at_throughput(7200, throughput=2, measured_ranks=1, ranks=1) == 1
    assert hours_at_throughput(7200, throughput=4, measured_ranks=2, ranks=8) == 0.125
    division = divide([lengths_of([(8, 8), (16, 8), (16, 8)])], ranks=2, accumulation=1)
    slowest = pair.flops_at(*division.sizes).max()  # of the rank with two pairs
    assert hours_at_peak(division, pair, steps=3600, peak_tflops=2, share=0.5) == pytest.approx(3 * slowest / 1e12)


def test_the_throughput_of_a_run_is_the_median(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"samples_per_second": 1}\n{"held-out/loss/word": 2}\n' + '{"samples_per_second": 8}\n' * 2)
    assert read_throughput(tmp_path) == 8
    for text, message in (("{}\n", "no line has"), ("{\n", "cannot be read"), ("3\n", "cannot be read")):
        metrics.write_text(text)
        with pytest.raises(InputError, match=message):
            read_throughput(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_throughput(tmp_path / "missing")
