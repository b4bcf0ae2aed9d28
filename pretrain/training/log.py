"""The log of a run: the console, ``metrics.jsonl``, TensorBoard, and Weights & Biases."""

from __future__ import annotations

import importlib.metadata
import json
import math
import resource
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from parsers.command import PLAIN_PROGRESS_SECONDS, InputError, pluralize, say
from pretrain.training.distributed import DistributedContext
from pretrain.training.settings import TrainingRecipe
from pretrain.training.workload import Scores
from shards.storage.files import write_atomic

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step, over all ranks."""

    scores: Scores
    samples: int
    tokens: int
    flops: float
    """multiplications and additions of the forward passes"""
    gradient_norm: float
    learning_rate: float
    norms: Mapping[str, float]
    """norms of layers by name, where the recipe asks for them"""
    recompilations: int | None
    """how often code of the encoder was compiled again since the start; None where it is not compiled"""


class Log:
    """Collects steps, and writes a line for several of them. Only rank 0 writes."""

    def __init__(
        self,
        out: Path,
        workload: tuple[Sequence[str], Sequence[float]],
        *,
        step: int,
        steps: int,
        peak_flops: float | None,
        wandb_project: str | None,
        world: DistributedContext,
    ) -> None:
        self._path = out / METRICS
        self._objectives, self._weights = workload
        self._steps = steps
        self._peak_flops = peak_flops
        self._world = world
        self._started, self._first_step = time.monotonic(), step
        self._printed = float("-inf")
        self._board: SummaryWriter | None = None
        self._wandb: Any = None
        self._clear(0.0, 0.0)
        if world.rank != 0:
            return
        if self._path.exists():
            # Lines after the checkpoint belong to steps that are run again.
            lines = [line for line in self._path.read_text().splitlines() if _is_until(line, step)]
            write_atomic(self._path, "".join(line + "\n" for line in lines).encode())
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        if wandb_project is not None:
            self._wandb = _wandb_run(wandb_project, out)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def _clear(self, waited: float, blocked: float) -> None:
        self._records: list[StepRecord] = []
        self._since, self._waited, self._blocked = time.monotonic(), waited, blocked

    def add(self, record: StepRecord) -> None:
        """Adds a step."""
        self._records.append(record)

    def write(self, step: int, waited: float, blocked: float) -> None:
        """Writes a line: means over the targets of all steps since the line before.

        Args:
            step: steps that were done.
            waited: seconds that this run has waited for data until now.
            blocked: seconds that it has waited for checkpoints until now.
        """
        if self._board is not None and self._records:
            seconds = time.monotonic() - self._since
            metrics = self._losses() | self._speed(seconds, waited - self._waited) | {"memory_gb": self._memory()}
            metrics["checkpoint_wait_share"] = (blocked - self._blocked) / seconds
            last = self._records[-1]
            metrics |= last.norms
            if last.recompilations is not None:
                metrics["recompilations"] = last.recompilations
            self.write_metrics(step, metrics)
            if time.monotonic() - self._printed >= PLAIN_PROGRESS_SECONDS or step == self._steps:
                self._printed = time.monotonic()
                say(self._line(step, metrics))
        self._clear(waited, blocked)

    def _losses(self) -> dict[str, float]:
        loss, correct, count = (
            torch.stack([getattr(record.scores, name) for record in self._records]).sum(0).tolist()
            for name in ("loss", "correct", "count")
        )
        found = {
            f"{what}/{name}": total / n
            for what, totals in (("loss", loss), ("accuracy", correct))
            for name, total, n in zip(self._objectives, totals, count, strict=True)
            if n and not math.isnan(total)
        }
        weights = dict(zip(self._objectives, self._weights, strict=True))
        total = sum(weights[name] * found.get(f"loss/{name}", 0.0) for name in self._objectives)
        last = self._records[-1]
        return found | {
            "loss": total,
            "gradient_norm": last.gradient_norm,
            "learning_rate": last.learning_rate,
        }

    def _speed(self, seconds: float, waited: float) -> dict[str, float]:
        samples, tokens, flops = (
            sum(getattr(record, name) for record in self._records) for name in ("samples", "tokens", "flops")
        )
        found = {
            "samples_per_second": samples / seconds,
            "tokens_per_second": tokens / seconds,
            "data_wait_share": waited / seconds,
        }
        if self._peak_flops is not None:
            # The backward pass counts twice the forward pass.
            found["share_of_peak"] = 3 * flops / seconds / (self._peak_flops * self._world.size)
        return found

    def _memory(self) -> float:
        """Returns the most memory that rank 0 has taken, in GB (1e9 bytes): on its device, or as a process on a CPU."""
        if self._world.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def _line(self, step: int, metrics: Mapping[str, float]) -> str:
        done = step - self._first_step
        left = timedelta(seconds=round((time.monotonic() - self._started) / done * (self._steps - step)))
        losses = ", ".join(
            f"{name} {metrics[f'loss/{name}']:.3f}" for name in self._objectives if f"loss/{name}" in metrics
        )
        peak = f"{metrics['share_of_peak']:.0%} of peak, " if "share_of_peak" in metrics else ""
        return (
            f"step {step:,} of {self._steps:,}: loss {metrics['loss']:.3f} ({losses}) | "
            f"{metrics['samples_per_second']:,.0f} samples/s, {metrics['tokens_per_second']:,.0f} tokens/s, "
            f"{peak}{metrics['data_wait_share']:.1%} waiting for data, "
            f"{metrics['checkpoint_wait_share']:.1%} for checkpoints | "
            f"{metrics['memory_gb']:.1f} GB | {left} left"
        )

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes metrics of a step, as a line and to all other places."""
        if self._board is None or not metrics:
            return
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=step)


def _is_until(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except ValueError:  # the end of what a killed run was writing
        return False


def print_banner(
    data: Mapping[str, str],
    model: nn.Module,
    world: DistributedContext,
    *,
    steps: int,
    done: int,
    step_seconds: float | None = None,
) -> None:
    """Says what is trained on what, before the first step. Only rank 0 does.

    Args:
        data: what there is to learn from, and of what a batch is made.
        model: the model.
        world: the device, and how many there are.
        steps: of the whole run.
        done: steps that are done already.
        step_seconds: how long a step takes, if that is known. Else the log says it as soon as there are steps.
    """
    if world.rank != 0:
        return
    cuda = world.device.type == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"CPU, {pluralize(torch.get_num_threads(), 'thread')}"
    rows = {
        **data,
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "device": device + (f", {world.size} processes" if world.size > 1 else ""),
        "steps": f"{steps:,}" + (f", {done:,} of them done before" if done else ""),
    }
    if step_seconds is not None:
        left = timedelta(seconds=round((steps - done) * step_seconds))
        rows["time"] = f"about {left} (hours, minutes, seconds)"
    for name, value in rows.items():
        say(f"  {name:<11} {value}")


def check_wandb() -> None:
    """Checks that Weights & Biases is installed.

    Raises:
        InputError: it is not.
    """
    try:
        importlib.metadata.version(
            "wandb"
        )  # not find_spec: a folder wandb, as it leaves them behind, is a package, too
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("wandb_project needs another package: pip install 'ernie-vil-pytorch[wandb]'") from error


def _wandb_run(project: str, out: Path) -> Any:
    """Starts a run of Weights & Biases, or continues it if this run is resumed."""
    import wandb

    remembered = out / "wandb-id"
    if not remembered.is_file():
        write_atomic(remembered, secrets.token_hex(4).encode())
    return wandb.init(project=project, dir=str(out), name=out.name, id=remembered.read_text(), resume="allow")


def measure_peak_flops(recipe: TrainingRecipe, device: torch.device) -> float | None:
    """Returns the FLOPs per second that a device can do.

    The recipe may say them. Else a GPU is measured with a few matrix multiplications, and for a CPU there is None.
    """
    if recipe.peak_tflops is not None:
        return recipe.peak_tflops * 1e12
    if device.type != "cuda":
        return None
    order = 8192
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    matrix = torch.randn(order, order, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        matrix @ matrix
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * order**3 / best
