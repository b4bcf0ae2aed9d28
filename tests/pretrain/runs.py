"""Runs of ``pretrain/run.py`` as users start them: trained, signalled, killed and resumed."""

import itertools
import json
import shutil
import signal
import sys

from safetensors.torch import load_file

from tests.pretrain.launch import ROOT, Launch

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


def copy_until(runs, out, step):
    """A copy of the whole run that was stopped after this step, one of the last two checkpoints."""
    folder = runs.folder / out
    shutil.copytree(runs.folder / runs.whole(), folder)
    (folder / "checkpoints/latest").write_text(f"step-{step}")
    shutil.rmtree(folder / "model")
    return folder / "checkpoints"


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
