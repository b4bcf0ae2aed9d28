"""What one rank does in `test_trainer`: ``python rank.py SCENARIO FOLDER SHARDS``; findings go to the folder."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from pretrain.batches import Steps
from pretrain.pretraining import Pretraining
from pretrain.recipe import Recipe
from pretrain.training.trainer import Trainer, full_weights
from pretrain.training.world import World, with_process_group
from shards.errors import InputError
from shards.reader import ShardSet

SCENARIO, FOLDER, SHARDS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])


def trainer(name, *settings, kind=Pretraining, held_out=None):
    recipe = Recipe.load(FOLDER / "recipe.yaml", list(settings))
    world = World.current()
    return Trainer(kind(recipe, ShardSet(SHARDS), held_out, "cpu"), recipe, FOLDER / name, world)


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
                before = full_weights(found.engine)
                found.train_step(dataset[step])
                found.step += 1
        except InputError as error:
            after = full_weights(found.engine)
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
        before = full_weights(found.engine)
        try:
            found.train_step(found.workload.dataset(found.world.rank, found.world.size)[0])
        except InputError as error:
            after = full_weights(found.engine)
            assert all((before[name] == after[name]).all() for name in before), "the parameters have changed"
            print(error, flush=True)


@dataclass
class Slow(Dataset):
    """Reads the third step slowly."""

    steps: Steps

    def __getitem__(self, step):
        if step == 2:
            time.sleep(6)
        return self.steps[step]


class Stalling(Pretraining):
    def dataset(self, rank, ranks):
        return Slow(super().dataset(rank, ranks))


def stalled():
    found = trainer("stalled", "batch_size=6", "steps=4", "stall_seconds=3", "workers=1", kind=Stalling)
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


with_process_group({f.__name__: f for f in (gradients, poisoned, steep, stalled, stages)}[SCENARIO])
