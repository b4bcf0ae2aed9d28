"""The trainer as users start it: trained, killed, resumed, interrupted."""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml
from safetensors.torch import load_file

from pretrain.training.interruption import ECHO_SECONDS
from shards.reader import ShardSet
from tests.pretrain.launch import ROOT, Launch, deepspeed, environment

MODEL = {
    "vocab_size": 50, "max_position_embeddings": 32, "sent_type_vocab_size": 4, "hidden_size": 16,
    "num_attention_heads": 2, "v_feature_size": 8, "v_hidden_size": 16, "v_num_attention_heads": 2,
    "v_intermediate_size": 16, "co_hidden_size": 16, "co_num_attention_heads": 2, "t_biattention_id": [1],
    "v_biattention_id": [0], "class_size": 6, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}  # fmt: skip
NO_DROPOUT = MODEL | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# The 37 samples of the shards are 7 steps an epoch; the last one is short.
RECIPE = """
model: model.json
steps: 24
batch_size: 6
max_text: 16
log_every: 1
checkpoint_every: 4
workers: 1
"""
STEPS = 24


SIGNALLED = """
import os, signal
from pretrain.run import app
from pretrain.training.trainer import Trainer
from parsers.command import run

train_step = Trainer.train_step

def signalled(self, micro_batches):
    if self.step == {step} and self.world.rank in {ranks}:
        os.killpg(0, signal.{signal})  # as a terminal does: the workers get it as well
    return train_step(self, micro_batches)

Trainer.train_step = signalled
run(app)
"""
"""The trainer, and a signal during a step."""


FULL = """
import os, torch
from pretrain.pretraining import Pretraining
from pretrain.run import app
from parsers.command import run

score, calls = Pretraining.score, []

def full(self, model, batch):
    calls.append(batch)
    if len(calls) == {step} + 1 and os.environ.get("RANK", "0") == "{rank}":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 9 GiB.")
    return score(self, model, batch)

Pretraining.score = full
run(app)
"""
"""The trainer on a device without the memory for a step."""


class Runs:
    """Runs in one folder."""

    def __init__(self, folder, shards):
        self.folder, self.shards = folder, shards
        (folder / "model.json").write_text(json.dumps(MODEL))
        (folder / "no-dropout.json").write_text(json.dumps(NO_DROPOUT))
        (folder / "recipe.yaml").write_text(RECIPE)

    def start(self, out, *options, ranks=1, program=(ROOT / "pretrain/run.py",), **others):
        """Options with an equals sign are settings of the recipe."""
        settings = itertools.chain(*(("--set", option) for option in options if "=" in str(option)))
        rest = (option for option in options if "=" not in str(option))
        command = [sys.executable, *program, "--config", self.folder / "recipe.yaml"]
        command += ["--shards", self.shards, "--out", self.folder / out, *settings, *rest]
        return Launch(command, self.folder, ranks, **others)

    def whole(self, ranks=1, threads=1):
        """An undisturbed run."""
        out = f"whole-{ranks}-{threads}"
        if not (self.folder / out).exists():
            self.start(out, ranks=ranks, threads=threads).succeed()
        return out

    def signal(self, out, name, step, *options, ranks=1, to=(0, 1), **others):
        """A run whose ranks ``to`` get a signal in the middle of a step."""
        program = SIGNALLED.format(signal=name, step=step, ranks=to)
        return self.start(out, *options, ranks=ranks, program=["-c", program], **others)

    def kill(self, out, step, *options, **others):
        """A run that is killed in the middle of a step."""
        self.signal(out, "SIGKILL", step, *options, **others).fail(code=-signal.SIGKILL)
        assert len(self.metrics(out)) == step

    def metrics(self, out):
        """The lines of metrics.jsonl without what the machine decides."""
        path = self.folder / out / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        speed = {"samples_per_second", "tokens_per_second", "share_of_peak", "data_wait_share", "checkpoint_wait_share"}
        speed |= {"memory_gb"}
        return [{key: value for key, value in line.items() if key not in speed} for line in lines]

    def weights(self, out, folder="model"):
        return load_file(self.folder / out / folder / "model.safetensors")

    def wait_for_step(self, out, step, launch):
        path = self.folder / out / "metrics.jsonl"
        while not path.exists() or path.read_text().count("\n") < step:
            assert launch.running(), launch.wait()
            time.sleep(0.01)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shard_folder):
    return Runs(tmp_path_factory.mktemp("runs"), shard_folder)


def assert_undisturbed(runs, out, ranks=1, threads=1, whole=None):
    """The run has ended as one that nothing has disturbed."""
    whole = whole or runs.whole(ranks, threads)
    assert runs.metrics(out) == runs.metrics(whole)
    found, wanted = runs.weights(out), runs.weights(whole)
    assert found.keys() == wanted.keys()
    assert all((found[name] == wanted[name]).all() for name in wanted)


def kill_at(runs, out, steps, ranks, workers):
    """Starts the run and kills it at each of these steps, then lets it come to its end."""
    for step in steps:
        runs.kill(out, step, f"workers={workers}", "--resume", ranks=ranks)
    runs.start(out, f"workers={workers}", "--resume", ranks=ranks).succeed()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_resumes_to_the_same_weights(runs, ranks):
    kill_at(runs, f"killed-{ranks}", [6], ranks, workers=1)
    assert_undisturbed(runs, f"killed-{ranks}", ranks)


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


# ------------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        (2, 1, ["zero_stage=1"]),
        (1, 2, ["zero_stage=1"]),
        pytest.param(2, 1, [], marks=pytest.mark.slow),
        pytest.param(2, 1, ["zero_stage=2"], marks=pytest.mark.slow),
        pytest.param(1, 2, ["zero_stage=3"], marks=pytest.mark.slow),
        pytest.param(2, 1, ["zero_stage=3"], marks=pytest.mark.slow),
        pytest.param(1, 2, ["zero_stage=2", "precision=bf16"], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_resumes_on_another_number_of_ranks(runs, before, after, settings):
    settings = ["model=no-dropout.json", *settings]
    name = "-".join(map(str, (before, after, *settings))).replace("=", "")
    runs.start(f"one-{name}", *settings).succeed()
    launch = runs.signal(name, "SIGTERM", 5, *settings, ranks=before, to=[before - 1])  # the others must hear of it
    launch.fail(*(["SIGTERM: ends after this step"] if before == 1 else []), code=143)
    stopped = len(runs.metrics(name))
    assert stopped == 6, "all ranks end after the step in which one of them got the signal"
    assert (runs.folder / name / "checkpoints/latest").read_text() == f"step-{stopped}"
    runs.start(name, *settings, "--resume", ranks=after).succeed()
    one, other = runs.metrics(f"one-{name}"), runs.metrics(name)
    assert len(one) == len(other) == STEPS
    for mine, theirs in zip(one, other, strict=True):
        assert {key: value for key, value in mine.items() if "loss" in key} == pytest.approx(
            {key: value for key, value in theirs.items() if "loss" in key}, abs=1e-3
        )
    assert not list((runs.folder / name / "checkpoints").glob(".*"))


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


def test_an_interrupt_leaves_a_checkpoint(runs):
    runs.signal("interrupted", "SIGINT", 3).fail("SIGINT: ends after this step", code=130)
    runs.start("interrupted", "--resume").succeed()
    assert_undisturbed(runs, "interrupted")


def test_a_second_signal_quits_at_once():
    code = (
        "import time\n"
        "from pretrain.training.interruption import Interruption\n"
        "with Interruption(0) as interruption:\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert any("SIGTERM: ends after this step" in line for line in iter(process.stderr.readline, ""))
    for _ in range(2):  # the echoes of one request
        process.send_signal(signal.SIGTERM)
    time.sleep(ECHO_SECONDS + 0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


@pytest.mark.slow
def test_the_launcher_ends_with_a_checkpoint(runs):
    """It passes the signal on to processes that have it already, kills them in the end, and exits with 1."""
    command = [*deepspeed(), ROOT / "pretrain/run.py", "--config", "recipe.yaml"]
    launch = Launch([*command, "--shards", runs.shards, "--out", "launched"], runs.folder, 1)
    runs.wait_for_step("launched", 5, launch)
    os.killpg(launch.processes[0].pid, signal.SIGTERM)
    launch.wait()
    assert launch.processes[0].returncode != 0
    deadline = time.monotonic() + 60
    stopped = runs.folder / "launched/checkpoints"
    while int((stopped / "latest").read_text().removeprefix("step-")) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)  # until the last process is gone
    runs.start("launched", "--resume", ranks=2).succeed()
    assert_undisturbed(runs, "launched", 2)


# -------------------------------------------------------------------------------------------------------- checkpoints


def copy_until(runs, out, step):
    """A copy of the whole run that was stopped after this step, one of the last two checkpoints."""
    folder = runs.folder / out
    shutil.copytree(runs.folder / runs.whole(), folder)
    (folder / "checkpoints/latest").write_text(f"step-{step}")
    shutil.rmtree(folder / "model")
    return folder / "checkpoints"


def test_a_damaged_checkpoint_is_refused_and_an_earlier_one_is_named(runs):
    checkpoints = copy_until(runs, "damaged", 24)
    file = checkpoints / "step-24/mp_rank_00_model_states.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    output = runs.start("damaged", "--resume").fail("step-24: is damaged: mp_rank_00_model_states.pt (differs)")
    advice = " ".join(output.split()).split("run: ")[1]
    assert subprocess.run(advice, shell=True).returncode == 0
    runs.start("damaged", "--resume").succeed()
    assert_undisturbed(runs, "damaged")


def test_a_full_disk_loses_nothing(runs):
    checkpoints = copy_until(runs, "full", 20)
    shutil.rmtree(checkpoints / "step-24")
    before = {path: path.read_bytes() for path in checkpoints.rglob("*") if path.is_file()}
    limit = (checkpoints / "step-20/mp_rank_00_model_states.pt").stat().st_size // 2

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    runs.start("full", "--resume", preexec_fn=limit_files).fail("step-24: cannot be written", "continue with --resume")
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-20"]
    runs.start("full", "--resume").succeed()
    assert_undisturbed(runs, "full")
    assert not list(checkpoints.glob(".*"))


# What happens while a checkpoint is written: `at(step)` is called in the writing thread, in the middle of the files.
WRITING = """
import os, signal, threading
from pretrain.run import app
from pretrain.training.checkpoints import Checkpoints
from pretrain.training.trainer import Trainer
from parsers.command import run

write, step_of, later = Checkpoints._write, Trainer.train_step, threading.Event()

def writing(self, files, plain, target):
    last = list(files)[-1]
    class Interrupted:
        def save(_, state, path):
            if path == str(last):
                at(int(target.name.removeprefix("step-")), self._world.rank)
            plain.save(state, path)
    return write(self, files, Interrupted(), target)

def stepping(self, *arguments):
    if self.step == 7:
        later.set()
    return step_of(self, *arguments)

Checkpoints._write, Trainer.train_step = writing, stepping
{at}
run(app)
"""


def while_writing(runs, out, at, *options, ranks=1):
    return runs.start(out, *options, ranks=ranks, program=["-c", WRITING.format(at=at)])


def test_training_goes_on_while_a_checkpoint_is_written(runs):
    at = "def at(step, rank): assert step != 4 or later.wait(100), 'no step was taken meanwhile'"
    while_writing(runs, "meanwhile", at).succeed()
    assert_undisturbed(runs, "meanwhile")


@pytest.mark.parametrize(("ranks", "settings"), [(1, []), pytest.param(2, ["zero_stage=1"], marks=pytest.mark.slow)])
def test_a_run_killed_while_a_checkpoint_is_written_has_the_one_before(runs, ranks, settings):
    out = f"writing-{ranks}"
    at = f"def at(step, rank): (step, rank) == (8, {ranks - 1}) and os.kill(os.getpid(), signal.SIGKILL)"
    launch = while_writing(runs, out, at, *settings, ranks=ranks)
    assert launch.processes[-1].wait(timeout=300) == -signal.SIGKILL
    launch.kill()
    checkpoints = runs.folder / out / "checkpoints"
    assert (checkpoints / "latest").read_text() == "step-4"
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-4"]
    runs.start(out, *settings, "--resume", ranks=ranks).succeed()
    assert not list(checkpoints.glob(".*"))
    if settings:
        runs.start(f"undisturbed-{out}", *settings, ranks=ranks).succeed()
        assert runs.metrics(out) == runs.metrics(f"undisturbed-{out}")
    else:
        assert_undisturbed(runs, out)


def test_a_checkpoint_that_one_rank_cannot_write_ends_all_of_them(runs):
    at = """
def at(step, rank):
    if (step, rank) == (4, 1):
        raise OSError("the disk is gone")
"""
    launch = while_writing(runs, "gone", at, "zero_stage=1", "checkpoint_every=2", ranks=2)
    launch.fail("step-4: cannot be written: the disk is gone; make room and continue with --resume")
    assert (runs.folder / "gone/checkpoints/latest").read_text() == "step-2"


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


def test_what_takes_the_time_is_shown_by_module(runs):
    printed = runs.start("profiled", "steps=6", "profile={start: 2, steps: 9}").succeed()  # the run ends before
    assert "4 steps: the 10 operations that took most CPU time" in printed
    assert "optimiser" in printed
    trace = json.loads((runs.folder / "profiled/profile/rank-0.json").read_text())
    names = Counter(event.get("name") for event in trace["traceEvents"])
    assert names["module: ernie_vil.text_layers.0.attention.query"] == 4
    assert names["Optimizer.step#AdamW.step"] == 4


def test_bad_input_is_refused_without_a_traceback(runs, tmp_path):
    for options, message in (
        (["stepz=3"], "stepz"),
        (["epochs=3"], "give either steps or epochs"),
        (["offload_optimizer=true"], "offload_optimizer needs a zero_stage"),
        (["average=3"], "average 3 needs keep_checkpoints of 3 or more"),
        (["--set", "steps"], "expected key=value"),
        (["--shards", tmp_path], "no manifest.json"),
        (["steps=2", "best={metric: accuracy, mode: max}"], "there is no 'accuracy'"),
        (["steps=1", "--init-text-from", tmp_path], "holds neither model.safetensors nor pytorch_model.bin"),
    ):
        runs.start("bad", *options).fail(message)
    assert not list((runs.folder / "bad").glob("checkpoints/*"))


def test_weights_and_biases(runs):
    wandb_missing = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True).returncode != 0
    os.environ["WANDB_MODE"] = "offline"
    launch = runs.start("wandb", "wandb_project=scenes", "steps=3")
    del os.environ["WANDB_MODE"]
    if wandb_missing:
        launch.fail("pip install 'ernie-vil-pytorch[wandb]'")
    else:
        launch.succeed()
        assert list((runs.folder / "wandb/wandb").glob("offline-run-*/*.wandb"))


def test_a_run_is_compared_with_other_images_and_with_text_alone(runs):
    runs.start("images", "steps=3").succeed()
    runs.start("text", "steps=3", "images=none").succeed()
    command = [sys.executable, "-m", "pretrain.report", "images", "--config", "recipe.yaml", "--text-only", "text"]
    command += ["--held-out", runs.shards, "--out", "report"]
    Launch(command, runs.folder, 1).succeed()
    report = json.loads((runs.folder / "report/report.json").read_text())
    assert set(report) == {"own image", "other image", "text only"}
    assert {"object", "word", "region", "match"} <= set(report["own image"])
    assert "region" not in report["text only"]
    for scores in report.values():
        for result in scores.values():
            assert 0 <= result["accuracy"] <= 1
            assert result["targets"] > 0
    assert (runs.folder / "report/losses.png").read_bytes().startswith(b"\x89PNG")
    command[3] = "nowhere"
    Launch(command, runs.folder, 1).fail()
