"""The speed of the trainer with the largest batch that fits: pairs per second, share of the peak, waiting for data."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.generated import readers, recipe, shard_folder, shard_set, write_recipe
from benchmarks.gpu.kernels import attention_kernels
from benchmarks.gpu.steps import Findings, Setting
from benchmarks.gpu.trace import device_shares
from benchmarks.gpu.trainer import last_line, metrics, train

SHARE_OF_PEAK, WAIT = 0.45, 0.02
"""Aims: at least this share of the peak, and at most this share of the time waiting for data."""
FULL = 0.85
"""Share of the device's memory to fill: the rest is for what is not tensors, and for fragments."""
SMALL, MOST_PAIRS = (128, 256), 8192
ZERO = 1
"""The stage of ZeRO in the recipes for base and large."""


MOST_SECONDS = 25.0
"""Long steps are timed no longer than this, but for the lines of the log that were begun."""


@dataclass(frozen=True, slots=True)
class TimedSteps:
    """The steps of a run: first the warm-up, then some of which the first is profiled, then those that are timed."""

    warm_up: int
    timed: int
    every: int
    """steps between lines of the log"""

    def lines(self, out: Path) -> list[dict[str, float]]:
        """Returns the lines of the log so far that stand for timed steps."""
        return [line for line in metrics(out) if line["step"] > self.warm_up + self.every]


def speed(setting: Setting, findings: Findings, size: str, compiled: bool) -> None:
    """Trains in bf16 with ZeRO 1, like the recipes for base and large, and with as many pairs as fit.

    On a CPU it is float32 where the encoder is compiled, because PyTorch's code for bf16 does not compile there.
    """
    size, length = setting.size(size), TimedSteps(2, 4, 2) if setting.tiny else TimedSteps(10, 50, 5)
    values: dict[str, object] = {"precision": "bf16", "zero_stage": ZERO, "passes": [100], "log_every": length.every}
    values |= {"steps": 10**6, "checkpoint_every": 10**6}
    if compiled:
        values |= {"compile": True, "precision": "fp32" if setting.device == "cpu" else "bf16"}
    else:  # a compiled model that is watched would be compiled again
        values["profile"] = {"start": length.warm_up, "steps": 1}
    pairs = _largest_batch(setting, size)
    findings.figures |= {"model": size, "pairs in a batch": pairs, "workers": readers(pairs)}
    out, shards = setting.scratch / f"speed-{size}-{compiled}", shard_folder(setting)
    file = out.with_suffix(".yaml")
    write_recipe(file, size, batch_size=pairs, **values | {"workers": readers(pairs)})

    def seconds(lines: list[dict[str, float]]) -> list[float]:
        return [pairs * length.every / line["samples_per_second"] for line in lines]

    def enough(out: Path) -> bool:
        """Tells whether the log has all lines that are needed, or there is no time for more.

        The run is then ended by SIGKILL, so that no time goes into a last checkpoint.
        """
        lines = length.lines(out)
        return len(lines) * length.every >= length.timed or sum(seconds(lines)) >= MOST_SECONDS

    run = train(setting, file, shards, out, until=enough)
    refused = [line for line in run.output.splitlines() if "cannot be compiled" in line]
    assert not refused, refused[0]
    lines = length.lines(out)
    assert lines, f"the run has ended before its steps could be timed: {last_line(run.output)}"
    findings.figures["steps timed"] = len(lines) * length.every
    _report(findings, lines, seconds(lines))
    if not compiled and setting.device == "cuda":
        findings.aim("GB, by those planned", lines[-1]["memory_gb"] / _planned_gb(file, shards), least=0.9, most=1.1)
    if not compiled:
        _report_profile(findings, out / "profile/rank-0.json")
    shutil.rmtree(out)


def _report(findings: Findings, lines: list[dict[str, float]], seconds: list[float]) -> None:
    """Reports means over the time that the lines of the log stand for."""

    def mean(name: str) -> float:
        return float(sum(line[name] * time for line, time in zip(lines, seconds, strict=True)) / sum(seconds))

    findings.figures |= {"pairs/s": mean("samples_per_second"), "GB": lines[-1]["memory_gb"]}
    if "share_of_peak" in lines[0]:
        findings.aim("share of peak", mean("share_of_peak"), least=SHARE_OF_PEAK)
    findings.aim("wait for data", mean("data_wait_share"), most=WAIT)
    if "recompilations" in lines[0]:
        findings.aim("recompilations", lines[-1]["recompilations"], most=0)


def _planned_gb(file: Path, shards: Path) -> float:
    """Returns what `pretrain.plan` says of the run's memory, in GB."""
    from pretrain.plan import GB
    from pretrain.recipe import PretrainRecipe
    from pretrain.simulation import Simulation
    from shards.reader import ShardSet

    simulation = Simulation.of(PretrainRecipe.load(file, []), ShardSet(shards), 20)
    return simulation.estimate_memory(simulation.divide(1), 1)[ZERO].total / GB


def _report_profile(findings: Findings, trace: Path) -> None:
    """Reports the kernels of attention, and what the device did in the profiled step, in percent of its time."""
    events = json.loads(trace.read_text())["traceEvents"]
    kernels = {str(event["name"]) for event in events if event.get("cat") == "kernel"}
    findings.figures["attention kernels"] = attention_kernels(kernels) if kernels else "not on CUDA"
    findings.figures |= {f"% {name}": 100 * share for name, share in device_shares(events).items()}


# ------------------------------------------------------------------------------------------------------ largest batch


def _largest_batch(setting: Setting, size: str) -> int:
    """Returns how many pairs fit. The first step that asks for a model finds it out."""
    if setting.device == "cpu":
        return 16
    found = setting.scratch / f"largest-{size}"
    if not found.is_file():
        process = multiprocessing.get_context("fork").Process(target=_find_largest, args=(setting, size, found))
        process.start()
        process.join()
        assert found.is_file(), "the largest batch could not be found; see the log"
    return int(found.read_text())


def _find_largest(setting: Setting, size: str, found: Path) -> None:
    """Finds the largest batch. Runs in a process of its own, because the one that asks must not use CUDA."""
    from pretrain.training.distributed import with_process_group

    def find() -> None:
        found.write_text(str(_fit(setting, size)))

    with_process_group(find)


def _fit(setting: Setting, size: str) -> int:
    """Returns the largest batch: two small ones tell how memory grows, and a step with the largest whether it fits."""
    import torch

    from benchmarks.gpu.correctness import batches_of
    from pretrain.pretraining import Pretraining
    from pretrain.training.distributed import DistributedContext
    from pretrain.training.trainer import Trainer

    shards = shard_set(setting)
    settings = recipe(size, precision="bf16", zero_stage=ZERO, passes=(100,), steps=1, batch_size=1)
    workload = Pretraining(settings, shards, None, "cuda")
    trainer = Trainer(workload, settings, setting.scratch / "largest", DistributedContext.current())

    def peak(pairs: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer.train_step(batches_of(settings.model_copy(update={"batch_size": pairs}), shards, "cuda"))
        print(f"{pairs} pairs: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB", flush=True)
        return torch.cuda.max_memory_allocated()

    small, large = SMALL
    peak(small)  # the first step makes the optimiser's states
    low, high = peak(small), peak(large)
    full = FULL * torch.cuda.get_device_properties(0).total_memory
    pairs = min(MOST_PAIRS, large + int((full - high) / (high - low) * (large - small)))
    while pairs > large:
        pairs = pairs // 8 * 8
        try:
            peak(pairs)
        except torch.OutOfMemoryError:
            print(f"{pairs} pairs: out of memory", flush=True)
            pairs = int(0.9 * pairs)
        else:
            return pairs
    return large
