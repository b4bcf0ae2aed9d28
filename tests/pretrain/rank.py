"""What one rank does in `test_trainer`: ``python rank.py SCENARIO FOLDER SHARDS``; findings go to the folder."""

import gc
import itertools
import json
import os
import signal
import sys
from bisect import bisect
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.data import Dataset

from parsers.checksums import sha256_of
from parsers.command import InputError
from pretrain.data.batches import StepDataset
from pretrain.model.costs import PairCosts
from pretrain.pretraining import Pretraining
from pretrain.recipe import PretrainRecipe
from pretrain.simulation import count_parameters, estimate_memory
from pretrain.training.distributed import DistributedContext, with_process_group
from pretrain.training.engine import gather_weights
from pretrain.training.loader import StepLoader
from pretrain.training.trainer import Trainer
from shards.reader import ShardSet
from shards.storage.files import read_record, write_record

SCENARIO, FOLDER, SHARDS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])


def trainer(name, *settings, kind=Pretraining, held_out=None, resume=False):
    recipe = PretrainRecipe.load(FOLDER / "recipe.yaml", list(settings))
    world = DistributedContext.current()
    return Trainer(kind(recipe, ShardSet(SHARDS), held_out, "cpu"), recipe, FOLDER / name, world, resume=resume)


def gradients():
    """Those that reach the optimiser, after clipping."""
    found = trainer("gradients", "batch_size=32", "log_every=1")
    kept = []

    def keep(optimizer, *_):
        kept.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    found.engine.optimizer.register_step_pre_hook(keep)
    world = found.world
    batches = found.workload.dataset(world.rank, world.size)[0]
    counts = torch.stack([found.workload.count_targets(batch) for batch in batches]).sum(0)
    found.train_step(batches)
    torch.save({"gradients": kept, "counts": counts}, FOLDER / f"gradients-{world.size}-{world.rank}.pt")


def poisoned():
    for settings in (["workers=0"], ["zero_stage=1"], ["precision=bf16", "zero_stage=2"], ["accumulation=2"]):
        name = "poisoned-" + "-".join(settings)
        found = trainer(name, "batch_size=6", *settings)
        found.out.mkdir(parents=True, exist_ok=True)
        try:
            dataset = found.workload.dataset(found.world.rank, found.world.size)
            for step in range(found.steps):
                before = gather_weights(found.engine)
                found.train_step(dataset[step])
                found.step += 1
        except InputError as error:
            after = gather_weights(found.engine)
            assert all((before[name] == after[name]).all() for name in before), "the parameters have changed"
            (FOLDER / f"{name}-{found.world.size}-{found.world.rank}.txt").write_text(f"{step} {error}")


class Steep(Pretraining):
    """A loss that is finite where its gradient is not."""

    def score(self, model, batch):
        found = super().score(model, batch)
        return replace(found, loss=found.loss + (found.loss - found.loss.detach()).abs().sqrt())


def steep():
    for settings in ([], ["zero_stage=1"]):
        found = trainer("steep", "batch_size=6", *settings, kind=Steep)
        found.out.mkdir(parents=True, exist_ok=True)
        before = gather_weights(found.engine)
        try:
            found.train_step(found.workload.dataset(found.world.rank, found.world.size)[0])
        except InputError as error:
            after = gather_weights(found.engine)
            assert all((before[name] == after[name]).all() for name in before), "the parameters have changed"
            print(error, flush=True)


@dataclass
class Slow(Dataset):
    """Reads the third step only when something is written to a named pipe."""

    steps: StepDataset
    pipe: Path

    def __getitem__(self, step):
        if step == 2:
            self.pipe.read_text()
        return self.steps[step]


class Stalling(Pretraining):
    def dataset(self, rank, ranks):
        return Slow(super().dataset(rank, ranks), FOLDER / f"pipe-{rank}")


def stalled():
    """The worker of each rank goes on when the rank's watchdog has printed all stacks."""
    found = trainer("stalled", "batch_size=6", "steps=4", "stall_seconds=3", "workers=1", kind=Stalling)
    pipe, print_stacks = FOLDER / f"pipe-{found.world.rank}", StepLoader.print_stacks

    def print_and_go_on(loader):
        print_stacks(loader)
        pipe.write_text("go on")

    os.mkfifo(pipe)
    StepLoader.print_stacks = print_and_go_on
    found.train()
    print("trained on", flush=True)


def stages():
    for name, *settings in (
        ("zero 0",),
        ("zero 1", "zero_stage=1"),
        ("zero 2", "zero_stage=2"),
        ("zero 3", "zero_stage=3"),
        ("offload 2", "zero_stage=2", "offload_optimizer=true"),
        ("offload 3", "zero_stage=3", "offload_optimizer=true"),
        ("checkpointing", "gradient_checkpointing=true"),
        ("bf16 zero 0", "precision=bf16"),
        ("bf16 zero 1", "precision=bf16", "zero_stage=1"),
        ("bf16 zero 2", "precision=bf16", "zero_stage=2"),
        ("bf16 zero 3", "precision=bf16", "zero_stage=3"),
    ):
        settings += ["batch_size=6", "steps=4", "evaluate_steps=2", "best={metric: held-out/loss/word, mode: min}"]
        settings += ["norms=true", "checkpoint_every=2", "average=2"]
        trainer(name, *settings, held_out=ShardSet(SHARDS)).train()


class Hostile:
    """A pickle of it makes a folder when it is read."""

    def __reduce__(self):
        return os.mkdir, (str(FOLDER / "code-was-run"),)


def hostile():
    """Resumes from checkpoints that a stranger has changed, on as many ranks as before and on another number."""
    for settings in (
        [],
        ["zero_stage=1"],
        ["zero_stage=2", "offload_optimizer=true"],
        ["zero_stage=3"],
        ["zero_stage=2", "precision=bf16"],
    ):
        name = "hostile-" + "-".join(settings)
        trainer(name, "steps=1", "workers=0", *settings).train()
        again = trainer(name, "steps=1", "workers=0", *settings, resume=True)
        assert again.step == 1, "what nobody has changed is loaded"
        folder = again.checkpoints.find().folder
        record = read_record(folder / "checkpoint.json")
        for path in sorted(folder.glob("*.pt")):
            content = path.read_bytes()
            torch.save(torch.load(path, weights_only=False) | {"extra": Hostile()}, path)
            own = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for ranks in (1, 2) if settings else (1,):
                changed = record | {"ranks": ranks, "files": record["files"] | {path.name: own}}
                write_record(changed, folder / "checkpoint.json")
                try:
                    trainer(name, "steps=1", "workers=0", *settings, resume=True)
                except InputError as error:
                    print(path.name, ranks, error, flush=True)
                assert not (FOLDER / "code-was-run").exists(), f"{settings}, {path.name} on {ranks} ranks"
            path.write_bytes(content)


class Ending(Pretraining):
    """Its data or its evaluation fail, as ``fault`` says."""

    fault = ""

    def evaluate(self, model, world):
        if self.fault in ("evaluation", "between"):
            raise InputError("the held-out shards are gone")
        return {"held-out/loss": 1.0}

    def dataset(self, rank, ranks):
        return Ended(super().dataset(rank, ranks), self.fault)


@dataclass
class Ended(Dataset):
    steps: StepDataset
    fault: str

    def __getitem__(self, step):
        if step == 4 and self.fault == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 4 and self.fault == "waiting":
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()
        return self.steps[step]


def endings():
    """Each way to end leaves a checkpoint, from which the run goes on to its end."""
    for fault, settings in (
        ("worker", []),
        ("waiting", []),
        ("evaluation", ["best={metric: held-out/loss, mode: min}", "evaluate_every=2", "checkpoint_every=2"]),
        ("between", ["best={metric: held-out/loss, mode: min}", "evaluate_every=3", "checkpoint_every=4"]),
    ):
        settings = ["batch_size=6", "steps=6", "workers=1", "log_every=1", *settings]
        Ending.fault = fault
        found = trainer(fault, *settings, kind=Ending)
        if fault in ("evaluation", "between"):
            found.workload.guaranteed_metrics = ("held-out/loss",)  # so it is not tried before the first step
        try:
            found.train()
        except InputError as error:
            print(fault, "|", error, flush=True)
        except SystemExit as end:
            print(fault, "|", "code", end.code, flush=True)
        latest = (FOLDER / fault / "checkpoints/latest").read_text()
        Ending.fault = ""
        trainer(fault, *settings, kind=Ending, resume=True).train()
        lines = [json.loads(line) for line in (FOLDER / fault / "metrics.jsonl").read_text().splitlines()]
        seen = [(line["step"], "held-out/loss" in line) for line in lines]
        best = (FOLDER / fault / "best/model.safetensors").is_file()
        early = latest in ("step-2", "step-3", "step-4")  # a worker reads ahead of the steps
        print(fault, "|", early, seen, best, flush=True)


def peaks():
    """The most that PyTorch hands out during a step, beside what the plan says; in bytes."""
    both = itertools.product((0, 1, 2, 3), ("fp32", "bf16"))
    # ZeRO 3 keeps the weights of small layers a second time, which counts for nothing where there are large ones.
    found = {
        f"{stage} {precision}": peak(stage, precision) for stage, precision in both if (stage, precision) != (3, "fp32")
    }
    (FOLDER / "peaks.json").write_text(json.dumps(found))


def peak(stage, precision):
    gc.collect()  # what an earlier trainer leaves must not be freed meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        made = trainer(f"peaks-{stage}-{precision}", f"zero_stage={stage}", f"precision={precision}")
        steps = made.workload.dataset(0, 1)
        for number in range(4):
            with record_function("step"):
                made.train_step(steps[1])
                made.step = number + 1
    events = watched.profiler.kineto_results.events()
    begun = sorted(event.start_ns() for event in events if event.name() == "step")
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    most = Counter()
    for (at, _), total in zip(changes, itertools.accumulate(change for _, change in changes), strict=True):
        step = bisect(begun, at)
        most[step] = max(most[step], total)
    least = min(most[step] for step in (2, 3, 4))  # Python may keep a buffer of the step before for a while

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    (batch,) = steps[1]
    sizes = (np.array(size) for size in (batch.samples(), batch.token_ids.shape[1], batch.features.shape[1]))
    activations = round(float(PairCosts.of(made.workload.config, dtype).saved_bytes_at(*sizes)))
    parameters = count_parameters(made.workload.config)
    planned = estimate_memory(parameters, stage=stage, ranks=1, dtype=dtype, activations=activations)
    return least, planned.total, planned.exchange


with_process_group(
    {f.__name__: f for f in (gradients, poisoned, steep, stalled, stages, hostile, endings, peaks)}[SCENARIO]
)
