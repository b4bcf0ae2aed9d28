"""Checks the trainer: ZeRO stages, offloading, gradient checkpointing, resuming, and other numbers of ranks."""

from __future__ import annotations

import json
import math
from pathlib import Path

from benchmarks.gpu.generated import shard_folder, write_recipe
from benchmarks.gpu.steps import Findings, Setting, Skip
from benchmarks.gpu.trainer import Run, metrics, train
from pretrain.model.config import SIZES

STEPS = 6
SAME = {"fp32": 1e-4, "bf16": 3e-2}
"""Largest relative difference of the losses of two runs that differ in rounding alone."""
RESUMED = 1e-3
"""Largest relative error of the weights of a resumed run, on a device whose sums have no fixed order."""


def stage(setting: Setting, findings: Findings, precision: str, zero: int, offload: bool, recompute: bool) -> None:
    """Compares the losses of a short run with those of fp32 without ZeRO."""
    settings = [f"precision={precision}", f"zero_stage={zero}", f"offload_optimizer={str(offload).lower()}"]
    settings += [f"gradient_checkpointing={str(recompute).lower()}"]
    plain = _plain(setting)
    found = plain if settings == PLAIN else _train(setting, "-".join(settings).replace("=", ""), *settings)
    losses, wanted = ([line["loss"] for line in run.lines()] for run in (found, plain))
    assert len(losses) == STEPS, f"{len(losses)} steps were logged, not {STEPS}"
    assert all(map(math.isfinite, losses)), losses
    findings.figures |= {"last loss": losses[-1], "GB": found.lines()[-1]["memory_gb"]}
    findings.bound("losses beside fp32, ZeRO 0", _apart(losses, wanted), SAME[precision])
    assert (found.out / "model/model.safetensors").is_file(), "no model was exported"


PLAIN = ["precision=fp32", "zero_stage=0", "offload_optimizer=false", "gradient_checkpointing=false"]


def _plain(setting: Setting) -> Run:
    """Returns the run that others are compared with. The first step that asks for it trains it."""
    out = setting.scratch / "plain"
    if (out / "model").is_dir():
        return Run(out, 0, "")
    return _train(setting, "plain", *PLAIN)


def _train(setting: Setting, name: str, *settings: str, resume: bool = False) -> Run:
    recipe = setting.scratch / "tiny.yaml"
    write_recipe(recipe, "tiny", steps=STEPS, batch_size=_pairs(setting), checkpoint_every=STEPS // 2)
    out = setting.scratch / name
    return train(setting, recipe, shard_folder(setting), out, *settings, resume=resume).succeed()


def _pairs(setting: Setting) -> int:
    return 4 if setting.tiny else 32


def _apart(found: list[float], wanted: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(found, wanted, strict=True))


def resume(setting: Setting, findings: Findings) -> None:
    """Compares a run that gets SIGKILL after a checkpoint and is resumed with an undisturbed one; both have dropout."""
    model = json.loads((SIZES / "tiny.json").read_text())
    model |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (setting.scratch / "dropout.json").write_text(json.dumps(model))
    recipe, shards = setting.scratch / "dropout.yaml", shard_folder(setting)
    steps = 9 if setting.tiny else 60
    settings = {"steps": steps, "batch_size": _pairs(setting), "checkpoint_every": steps // 3}
    write_recipe(recipe, str(setting.scratch / "dropout.json"), **settings)
    whole = train(setting, recipe, shards, setting.scratch / "whole").succeed()
    out = setting.scratch / "killed"
    killed = train(setting, recipe, shards, out, until=lambda out: (out / "checkpoints/latest").is_file())
    assert killed.code < 0, "the run had ended before it could be killed"
    findings.figures["killed after step"] = max((line["step"] for line in metrics(out)), default=0)
    findings.figures["resumed after step"] = int((out / "checkpoints/latest").read_text().removeprefix("step-"))
    found = train(setting, recipe, shards, out, resume=True).succeed()
    losses, wanted = ([line["loss"] for line in run.lines()] for run in (found, whole))
    findings.bound("losses beside an undisturbed run", _apart(losses, wanted), SAME["fp32"])
    _compare(findings, found.out, whole.out, 0.0 if setting.device == "cpu" else RESUMED)


def _compare(findings: Findings, found: Path, wanted: Path, bound: float) -> None:
    """Compares the weights of two runs."""
    from safetensors.torch import load_file

    from benchmarks.gpu.correctness import error

    mine, theirs = (load_file(out / "model/model.safetensors") for out in (found, wanted))
    findings.figures["weights bit by bit equal"] = str(all((mine[name] == theirs[name]).all() for name in theirs))
    findings.bound("weights", error(list(mine.values()), [theirs[name] for name in mine]), bound)


def universal(setting: Setting, findings: Findings) -> None:
    """Trains with two processes on the CPU and ZeRO 2, and goes on halfway with one process on the device."""
    shards, plain = shard_folder(setting), _plain(setting)
    out, settings = setting.scratch / "universal", ("precision=fp32", "zero_stage=2")
    recipe = setting.scratch / "tiny.yaml"
    train(setting, recipe, shards, out, *settings, ranks=2, before=_on_cpu).succeed()
    (out / "checkpoints/latest").write_text(f"step-{STEPS // 2}")
    found = train(setting, recipe, shards, out, *settings, resume=True).succeed()
    losses, wanted = ([line["loss"] for line in run.lines()] for run in (found, plain))
    findings.bound("losses beside fp32, ZeRO 0", _apart(losses, wanted), SAME["fp32"])
    _compare(findings, out, plain.out, RESUMED)


def _on_cpu() -> None:
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    set_accelerator(CPU_Accelerator())


def nccl(setting: Setting, findings: Findings) -> None:
    """Checks the backend of the trainer's process group, and a sum over its one rank."""
    if setting.device == "cpu":
        raise Skip("there is no NCCL on a CPU")
    import torch
    import torch.distributed as dist

    from pretrain.training.distributed import DistributedContext, with_process_group

    def add() -> None:
        findings.figures["backend"] = backend = dist.get_backend()
        assert backend == "nccl", f"the trainer uses {backend}"
        world = DistributedContext.current()
        findings.figures["device"] = str(world.device)
        numbers = torch.arange(1000.0, device=world.device)
        dist.all_reduce(numbers)
        assert numbers.tolist() == list(range(1000)), "a sum over one rank has changed the numbers"

    with_process_group(add)
