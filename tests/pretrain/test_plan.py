"""What a run will take: length, balance, memory, hours, and the command that prints them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.data.batches import Collator, StepDataset
from pretrain.data.division import Division, Positions, divide, positions
from pretrain.data.order import BatchPlan
from pretrain.model.config import ModelConfig
from pretrain.model.costs import PairCosts, costs
from pretrain.plan import count_parameters, hours_at_peak, hours_at_throughput, memory, run_length, throughput_of
from pretrain.recipe import Masking
from pretrain.training.loader import StepLoader
from tests.pretrain.conftest import write_shards
from tests.pretrain.launch import Launch
from tests.pretrain.test_run import RECIPE

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "configs/model/toy.json"
PAIRS = st.lists(st.tuples(st.integers(2, 64), st.integers(1, 101)), max_size=40)


def batch_of(pairs):
    return Positions(*np.array(pairs, np.int64).reshape(-1, 2).T)


@settings(max_examples=25, deadline=None)
@given(batch_size=st.integers(1, 50), steps=st.integers(1, 60), passes=st.sampled_from([0.3, 0.5, 1, 2, 2.5]))
def test_the_samples_of_a_run_are_those_of_its_batches(shards, batch_size, steps, passes):
    plan = BatchPlan(shards, seed=3, batch_size=batch_size, block_shards=2, mismatch=0.5, passes=[passes])
    length = run_length(steps, plan)
    assert length.samples == sum(len(plan.batch(step)) for step in range(steps))
    assert length.epochs == pytest.approx(length.samples / (passes * len(shards)))


@settings(max_examples=10, deadline=None)
@given(batch_size=st.integers(1, 50), epochs=st.integers(1, 3))
def test_equal_tokens_leave_the_length_of_epochs_as_it_is(shards, batch_size, epochs):
    plan = BatchPlan(shards, seed=3, batch_size=batch_size, block_shards=2, mismatch=0.5, equal_tokens=True)
    steps = epochs * plan.steps_per_epoch
    assert run_length(steps, plan).samples == sum(len(plan.batch(step)) for step in range(steps)) == epochs * 37


@settings(deadline=None)
@given(batches=st.lists(PAIRS, min_size=1, max_size=4), ranks=st.integers(1, 12), accumulation=st.integers(1, 4))
def test_the_ranks_together_have_the_global_batch(batches, ranks, accumulation):
    batches = [batch_of(pairs) for pairs in batches]
    division = divide(batches, ranks=ranks, accumulation=accumulation)
    assert division.samples.sum((1, 2)).tolist() == [len(batch.text) for batch in batches]
    assert division.text.sum((1, 2)).tolist() == [batch.text.sum() for batch in batches]
    assert division.image.sum((1, 2)).tolist() == [batch.image.sum() for batch in batches]
    assert (division.text <= division.samples * division.text_length).all()
    assert (division.image <= division.samples * division.image_length).all()


def test_balance_and_padding_of_two_ranks():
    division = divide([batch_of([(8, 4), (4, 8), (16, 8), (10, 6)])], ranks=2, accumulation=1)
    assert division.tokens.tolist() == [[24, 40]]
    assert division.balance == 40 / 32
    assert division.text_padding == pytest.approx(1 - 38 / (2 * 8 + 2 * 16))
    assert division.image_padding == pytest.approx(1 - 26 / (4 * 8))


@pytest.mark.parametrize(("images", "max_text"), [("own", 64), ("own", 10), ("none", 64)])
def test_the_positions_are_those_of_the_trainers_batches(shards, images, max_text):
    plan = BatchPlan(
        shards, seed=3, batch_size=9, block_shards=2, mismatch=0.5, max_text=max_text, images=images != "none"
    )
    collator = Collator(
        shards, seed=3, max_text=max_text, masking=Masking(), images=images, device_type="cuda"
    )  # fmt: skip
    steps = range(plan.steps_per_epoch)
    loaded = [
        StepLoader(StepDataset(plan, collator, rank=rank, ranks=2, accumulation=2), steps, workers=0)
        for rank in range(2)
    ]
    for step in steps:
        division = divide([positions(plan, step, max_text=max_text, images=images)], ranks=2, accumulation=2)
        for rank in range(2):
            for part, batch in enumerate(next(loaded[rank])):
                at = 0, rank, part
                assert division.samples[at] == len(batch.matched)
                assert division.text[at] == batch.tokens()
                rows = batch.locations[..., 4].count_nonzero() if batch.image_mask is None else batch.image_mask.sum()
                assert division.image[at] == int(rows)
                assert division.text_length[at] == batch.token_ids.shape[1]
                assert division.image_length[at] == batch.features.shape[1]


@pytest.fixture(scope="module")
def toy():
    return ModelConfig.load(TOY)


@pytest.fixture(scope="module")
def pair(toy):
    return PairCosts.of(toy, torch.float32)


@pytest.mark.parametrize(("samples", "text", "rows"), [(1, 40, 8), (3, 64, 104)])
def test_the_polynomial_gives_the_costs_of_any_length(toy, pair, samples, text, rows):
    found = costs(toy, batch=samples, text=text, rows=rows)
    one = np.ones((1, 1, 1), np.int64)
    division = Division(one * samples, one, one, one * text, one * rows)
    assert pair.flops_at(*division.sizes).item() == pytest.approx(sum(cost.flops for cost in found), rel=1e-9)
    saved = sum(cost.saved_bytes for cost in found)
    assert pair.saved_bytes_at(*division.sizes).item() == pytest.approx(saved, rel=1e-4)


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
    found = memory(1000, stage=stage, ranks=4, dtype=dtype, activations=70)
    assert (found.weights, found.gradients, found.optimizer, found.update) == (weights, gradients, optimizer, update)
    assert found.total == weights + optimizer + found.exchange + gradients + update
    more = memory(1000, stage=stage, ranks=4, dtype=dtype, activations=10**6)
    assert more.total == weights + optimizer + more.exchange + 10**6, "activations are gone when the optimiser steps"


@pytest.mark.parametrize("batch", [pytest.param(4, marks=pytest.mark.slow), 64])
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
        found = [memory(parameters, stage=s, ranks=n, dtype=dtype, activations=5) for s in range(4)]
        return [of_stage.total - of_stage.exchange for of_stage in found]

    assert totals(ranks) == sorted(totals(ranks), reverse=True)
    assert all(more <= fewer for more, fewer in zip(totals(ranks + 1), totals(ranks), strict=True))


def test_the_heads_are_counted(toy):
    encoder = sum(cost.parameters for cost in costs(toy, batch=1, text=8, rows=8))
    d, v = toy.hidden_size, toy.v_hidden_size
    words = d * d + d + 2 * d + toy.vocab_size  # the output matrix is the word embedding
    regions = v * v + v + 2 * v + v * toy.class_size + toy.class_size
    assert count_parameters(toy) == encoder + words + regions + toy.co_hidden_size + 1


def test_hours(pair):
    assert hours_at_throughput(7200, throughput=2, measured_ranks=1, ranks=1) == 1
    assert hours_at_throughput(7200, throughput=4, measured_ranks=2, ranks=8) == 0.125
    division = divide([batch_of([(8, 8), (16, 8), (16, 8)])], ranks=2, accumulation=1)
    slowest = pair.flops_at(*division.sizes).max()  # of the rank with two pairs
    assert hours_at_peak(division, pair, steps=3600, peak_tflops=2, share=0.5) == pytest.approx(3 * slowest / 1e12)


def test_the_throughput_of_a_run_is_the_median(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"samples_per_second": 1}\n{"held-out/loss/word": 2}\n' + '{"samples_per_second": 8}\n' * 2)
    assert throughput_of(tmp_path) == 8
    for text, message in (("{}\n", "no line has"), ("{\n", "cannot be read"), ("3\n", "cannot be read")):
        metrics.write_text(text)
        with pytest.raises(InputError, match=message):
            throughput_of(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        throughput_of(tmp_path / "missing")


@pytest.fixture
def command(tmp_path, shard_folder):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {TOY}\nsteps: 20\nbatch_size: 10\nmax_text: 16\n")

    def command(*options):
        start = [sys.executable, "-m", "pretrain.plan", "--config", str(recipe), "--shards", str(shard_folder)]
        return subprocess.run([*start, *options], cwd=ROOT, capture_output=True, text=True)

    return command


def test_the_command(command, tmp_path):
    report = tmp_path / "plan.json"
    done = command(
        "--ranks", "2", "--ranks", "16", "--throughput", "5", "--device-memory", "0.01", "--batches", "3",
        "--json", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20 steps, 4 an epoch: 5.00 epochs" in done.stdout
    found = json.loads(report.read_text())
    assert found["length"]["samples"] == 185
    assert found["batches"]["simulated"] == 3
    two, sixteen = found["ranks"]
    assert (two["ranks"], two["samples"], two["hours"]) == (2, [5, 5], 185 / 10 / 3600)
    assert sixteen["samples"] == [0, 1]
    for stage in two["memory"]:
        later = max(stage["activations"], stage["gradients"] + stage["update"])
        assert stage["total"] == stage["weights"] + stage["optimizer"] + stage["exchange"] + later
        assert stage["fits"] == (stage["total"] <= 1e7)


def test_the_command_takes_several_sets_and_a_token_budget(command, tmp_path):
    more, report = write_shards(tmp_path / "more" / "train", [30], seed=5), tmp_path / "plan.json"
    sets = ("--shards", str(more), "--set", "passes=[1,2]")
    assert command(*sets, "--json", str(report)).returncode == 0
    found = json.loads(report.read_text())
    assert found["length"]["samples"] == 194  # of 97 pairs, the second set twice: 10 batches, the last one of 7
    assert found["length"]["steps_per_epoch"] == 10

    done = command(*sets, "--set", "batch_size=null", "--set", "tokens=500", "--json", str(report))
    assert done.returncode == 0, done.stderr
    tokens = json.loads(report.read_text())["batches"]["tokens"]
    assert 400 < tokens["mean"] < 500
    assert tokens["longest"] < 560
    assert "tokens of a batch" in done.stdout

    done = command("--shards", str(more))
    assert done.returncode == 0, done.stderr
    done = command("--shards", str(more), "--set", "passes=[1]")
    assert done.returncode == 1
    assert "one number for each set of shards, of which there are 2" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "tokens=500"), "give one of batch_size"),
        (("--throughput", "5", "--peak-tflops", "9", "--share", "0.3"), "give one of"),
        (("--peak-tflops", "9"), "belong together"),
        (("--throughput", "0"), "--throughput 0.0: must be more than 0"),
        (("--peak-tflops", "9", "--share", "30"), "--share 30.0: no more than 1"),
        (("--set", "max_text=9999"), "max_text 9999 is more than"),
        (("--json", "/missing/plan.json", "--batches", "1"), "cannot be written"),
    ],
)
def test_wrong_options_are_named(command, options, message):
    done = command(*options)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
