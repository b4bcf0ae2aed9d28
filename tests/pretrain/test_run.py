"""The trainer as users start it: trained, killed, resumed, interrupted."""

import json
import random
import shutil

import pytest
import yaml

from shards.reader import ShardSet
from shards.schema import MEMBERS
from tests.pretrain.launch import ROOT, Launch, deepspeed
from tests.pretrain.runs import FULL, STEPS, Runs, assert_undisturbed, kill_at
from tests.shards.samples import manifest_of


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_weights(runs, ranks):
    kill_at(runs, f"killed-{ranks}", [6], ranks, workers=1)
    assert_undisturbed(runs, f"killed-{ranks}", ranks)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_with_false_captions_resumes_to_the_same_weights(tmp_path, negatives_folder, ranks):
    runs = Runs(tmp_path, negatives_folder)
    options = ["negatives.share=0.7", "masking.whole=0.4", "weights.token_match=1", "steps=10", "checkpoint_every=3"]
    runs.start("whole", *options, ranks=ranks).succeed()
    runs.kill("killed", 7, *options, ranks=ranks)
    runs.start("killed", *options, "--resume", ranks=ranks).succeed()
    assert_undisturbed(runs, "killed", whole="whole")
    assert any("loss/token_match" in line for line in runs.metrics("whole"))
    assert any(name.startswith("heads.token_match") for name in runs.weights("whole"))


def test_a_resumed_run_computes_with_as_many_threads_as_before(runs):
    """Another number adds up in another order."""
    runs.kill("threads", 6, threads=2)
    printed = runs.start("threads", "--resume", threads=1).succeed()
    assert "threads of each process: 2, as before, not 1" in printed
    assert_undisturbed(runs, "threads", threads=2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_may_be_killed_at_any_step_and_again(runs, ranks, workers):
    draw = random.Random(10 * ranks + workers)
    # Twice before the first checkpoint after step 4, once just before an epoch's edge, twice anywhere.
    steps = [5, 5, 13, *sorted(draw.sample(range(14, 21), 2))]
    out = f"killed-{ranks}-{workers}"
    kill_at(runs, out, steps, ranks, workers)
    assert_undisturbed(runs, out, ranks)
    record = yaml.safe_load((runs.folder / out / "run.yaml").read_text())
    assert len(record["starts"]) > 1


def test_another_run_is_refused(runs):
    runs.start(runs.whole()).fail("--resume to continue it")
    runs.start(runs.whole(), "--resume", "seed=1", "optimizer.learning_rate=0.01").fail(
        "recipe.optimizer.learning_rate: 0.0001 -> 0.01; recipe.seed: 0 -> 1"
    )


def test_held_out_shards_of_another_detector_are_refused(runs, shard_folder):
    other = runs.folder / "other-detector"
    shutil.copytree(shard_folder, other)
    (other / "manifest.json").write_text(json.dumps(manifest_of(other) | {"feature_size": 16}))
    runs.start("other", "--held-out", other).fail("has features of size 16, and", "regions of the same detector")


def test_a_batch_larger_than_the_set_is_said(runs):
    printed = runs.start("small-set", "batch_size=50", "steps=1").succeed()
    assert "a batch of 50 pairs is more than the 37 of an epoch" in printed


# ------------------------------------------------------------------------------------------------------ interruptions


def test_a_step_too_large_for_the_memory_says_what_needs_less(runs):
    output = runs.start("full-memory", program=["-c", FULL.format(step=5, rank=0)]).fail(
        "error: step 5: CUDA out of memory. Tried to allocate 2.00 GiB. Either raise accumulation or"
    )
    (line,) = (line for line in output.splitlines() if "error:" in line)
    for lever in ("accumulation", "gradient_checkpointing", "batch_size", "tokens", "zero_stage", "offload_optimizer"):
        assert lever in line
    assert (runs.folder / "full-memory/checkpoints/latest").read_text() == "step-4"
    runs.start("full-memory", "--resume").succeed()
    assert_undisturbed(runs, "full-memory")


def test_all_ranks_end_when_one_has_no_memory(runs):
    launch = runs.start("full-memory-2", ranks=2, program=["-c", FULL.format(step=5, rank=1)])
    outputs = launch.wait()
    assert [process.returncode for process in launch.processes] == [1, 1], outputs
    assert "error: step 5: CUDA out of memory" in outputs[1]
    runs.start("full-memory-2", "--resume", ranks=2).succeed()
    assert_undisturbed(runs, "full-memory-2", 2)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_held_out_shards_that_one_rank_cannot_read_cost_no_step(runs, shard_folder, tmp_path, ranks):
    held_out, out = tmp_path / "held-out", f"damaged-held-out-{ranks}"
    shutil.copytree(shard_folder, held_out)
    shards = ShardSet(held_out)
    shard, row = shards.find("2-11")  # of two ranks, the second one reads it
    offset, _ = shards.shard(shard).extents[row, list(MEMBERS).index("features.npy")].tolist()
    path = held_out / shards.manifest.shards[shard].file
    sound = path.read_bytes()
    path.write_bytes(sound[:offset] + b"no array" + sound[offset + 8 :])
    options = ["evaluate_every=3", "checkpoint_every=8", "--held-out", held_out]
    runs.start(out, *options, ranks=ranks).fail("sample 2-11, member features.npy")
    assert (runs.folder / out / "checkpoints/latest").read_text() == "step-3"
    path.write_bytes(sound)
    runs.start(out, *options, "--resume", ranks=ranks).succeed()
    lines = runs.metrics(out)
    assert [line["step"] for line in lines if "held-out/loss/word" in line] == list(range(3, STEPS + 1, 3))
    losses, undisturbed = (
        [line["loss"] for line in of if "loss" in line] for of in (lines, runs.metrics(runs.whole(ranks)))
    )
    assert losses == undisturbed


# -------------------------------------------------------------------------------------------------------- checkpoints


# ------------------------------------------------------------------------------------------------------ all the rest


def test_ranks_and_micro_batches_learn_the_same(runs):
    settings = ["model=no-dropout.json", "steps=6"]
    runs.start("one", *settings).succeed()
    command = [*deepspeed(), ROOT / "pretrain/run.py", "--config", "recipe.yaml"]
    command += ["--shards", runs.shards, "--out", "two", "--set", settings[0], "--set", settings[1]]
    Launch(command, runs.folder, 1).succeed()
    runs.start("accumulated", *settings, "accumulation=3").succeed()
    one = runs.metrics("one")
    assert len(one) == 6
    for other in ("two", "accumulated"):
        for mine, theirs in zip(one, runs.metrics(other), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3)
    assert not (runs.folder / "compiled").exists(), "a process killed while compiling blocks all later runs"


def test_the_best_model_is_kept_and_training_stops_early(runs, shard_folder):
    best = "best={metric: held-out/loss/word, mode: max, patience: 2}"  # an early one is best: the loss falls
    options = ["steps=null", "epochs=2.5", "evaluate_every=2", "checkpoint_every=3", best]
    options += ["optimizer.learning_rate=0.01", "peak_tflops=0.001"]
    link = runs.folder / "held-out"
    shutil.copytree(shard_folder, link)
    output = runs.start("best", *options, "--held-out", link).succeed()
    lines = runs.metrics("best")
    held_out = [line["held-out/loss/word"] for line in lines if "held-out/loss/word" in line]
    assert len(held_out) == held_out.index(max(held_out)) + 3 < 9
    last_step = 2 * len(held_out)
    assert lines[-1]["step"] == last_step
    assert "step 1 of 18: loss" in output
    assert "% of peak" in output
    assert "Held-out images" in output
    first, last = runs.weights("best", "best"), runs.weights("best")
    assert any((first[name] != last[name]).any() for name in last)
    for model, value in (("best", max(held_out)), ("model", held_out[-1])):
        card = (runs.folder / "best" / model / "README.md").read_text()
        (results,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
        assert {"type": "held-out/loss/word", "value": value} in results["metrics"]
    assert (runs.folder / "best/checkpoints/latest").read_text() == f"step-{last_step}"
    runs.start("best", *options, "--held-out", link, "--resume").succeed()  # nothing is left to do
    assert runs.metrics("best") == lines

    record = yaml.safe_load((runs.folder / "best/run.yaml").read_text())
    assert record["recipe"]["epochs"] == 2.5
    assert record["manifest"] == ShardSet(shard_folder).manifest.checksum
    start = record["starts"][0]
    assert "--out" in start["command"]
    assert {"torch", "deepspeed", "numpy"} <= start["packages"].keys()
    assert start["ranks"] == 1


def test_steps_are_passed_over_and_all_others_stay_as_they_are(runs):
    steps = range(1, 7)
    runs.start("passing", "steps=6", "checkpoint_every=2").succeed()
    printed = runs.start("passed", "steps=6", "checkpoint_every=2", "skip_steps=[3, 5]").succeed()
    assert "step 3: passed over" in printed
    whole, found = runs.metrics("passing"), runs.metrics("passed")
    assert [line["step"] for line in whole] == list(steps)
    assert [line["step"] for line in found] == [1, 2, 3, 5]
    assert found[:3] == whole[:3]
    assert found[3]["learning_rate"] == whole[4]["learning_rate"]
    assert found[3]["loss"] != whole[4]["loss"]

    shutil.rmtree(runs.folder / "passing/model")
    (runs.folder / "passing/checkpoints/latest").write_text("step-4")
    runs.start("passing", "steps=6", "checkpoint_every=2", "--resume", "skip_steps=[5]").succeed()
    assert [line["step"] for line in runs.metrics("passing")] == [1, 2, 3, 4, 5]


def test_bad_input_is_refused_without_a_traceback(runs, tmp_path):
    for options, message in (
        (["stepz=3"], "stepz"),
        (["epochs=3"], "give either steps or epochs"),
        (["offload_optimizer=true"], "offload_optimizer needs a zero_stage"),
        (["average=3"], "average 3 needs keep_checkpoints of 3 or more"),
        (["--set", "steps"], "expected key=value"),
        (["--shards", tmp_path], "no manifest.json"),
        (["steps=2", "best={metric: accuracy, mode: max}"], "there is no 'accuracy'"),
        (["steps=1", "--start-text", tmp_path], "holds neither model.safetensors nor pytorch_model.bin"),
    ):
        runs.start("bad", *options).fail(message)
    assert not list((runs.folder / "bad").glob("checkpoints/*"))
