"""The training loop beside the bare step, and on two processes: ``python -m benchmarks.training``.

Generated shards of 36 regions with 2,048 features are trained on by ``pretrain/run.py`` as users start it, one thread a
process, on the CPU. The bare step is that of ``benchmarks.model``: the same model and batch size, one batch over and
over, neither data nor log. All take turns, round after round; each figure is the median of a run's steps, of the
fastest round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from rich.table import Table

from benchmarks.model import OURS, Size, make
from benchmarks.shards import BOXES, PIECES, describe, make_sample, write_ours
from pretrain.config import ModelConfig
from pretrain.model.__main__ import SIZES
from shards.console import console, progress, run
from shards.errors import InputError

WARM_UP = 3
"""Steps of a run that are not timed."""
TRAINER = Path(__file__).resolve().parents[1] / "pretrain/run.py"
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.training --config base --steps 20")
def main(
    config: Annotated[str, typer.Option(help="Size of the model.")] = "base",
    batch: Annotated[int, typer.Option(min=2, help="Pairs of each process.")] = 16,
    steps: Annotated[int, typer.Option(min=WARM_UP + 1, help="Steps of a run.")] = 12,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read, for each that trains.")] = 1,
) -> None:
    """Time the training loop."""
    model_config = ModelConfig.load(SIZES / f"{config}.json")
    bare: list[float] = []
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name, progress("train", 3 * rounds, "runs") as advance:
        folder = Path(name)
        shards = folder / "shards"
        shards.mkdir()
        describe(shards, [write_ours([make_sample(n) for n in range(20 * batch)], shards / "00000.tar")])
        for number in range(rounds):
            bare.append(_bare_step(model_config, Size(batch, PIECES + 2, BOXES + 1), steps))
            advance(1)
            for ranks in found:
                recipe = {
                    "model": str(SIZES / f"{config}.json"),
                    "steps": steps,
                    "batch_size": batch * ranks,
                    "workers": workers,
                    "log_every": 1,
                    "checkpoint_every": steps,
                }
                found[ranks].append(_train(recipe, shards, folder / f"run-{ranks}-{number}", ranks))
                advance(1)
    _print(config, batch, min(bare), {ranks: min(rounds) for ranks, rounds in found.items()})


def _bare_step(config: ModelConfig, size: Size, steps: int) -> float:
    """Seconds of a step without a loop around it."""
    torch.set_num_threads(1)
    contestant = make(OURS, config, size, torch.device("cpu"))
    optimizer = torch.optim.AdamW(contestant.model.parameters(), fused=True)
    contestant.model.train()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        torch.autograd.backward(contestant.loss())
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


def _train(recipe: dict[str, object], shards: Path, out: Path, ranks: int) -> tuple[float, float]:
    """Seconds of a step and the share of it that was spent waiting for data."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [sys.executable, *launcher, str(TRAINER), "--config", str(file), "--shards", str(shards)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINER.parents[1])}
    done = subprocess.run([*command, "--out", str(out)], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"the run on {ranks} processes has failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][WARM_UP:]
    pairs = int(str(recipe["batch_size"]))
    return (
        pairs / statistics.median(line["samples_per_second"] for line in lines),
        statistics.median(line["data_wait_share"] for line in lines),
    )


def _print(config: str, batch: int, bare: float, found: dict[int, tuple[float, float]]) -> None:
    table = Table(
        "", "seconds a step", "pairs/s", "beside the line above", "waiting for data",
        title=f"{config}, {batch} pairs a process, one thread each", title_justify="left",
    )  # fmt: skip
    one, two = found[1], found[2]
    table.add_row("bare step", f"{bare:.3f}", f"{batch / bare:.1f}", "", "")
    table.add_row("loop", f"{one[0]:.3f}", f"{batch / one[0]:.1f}", f"{bare / one[0]:.1%} as fast", f"{one[1]:.2%}")
    faster = 2 * one[0] / two[0]
    table.add_row("2 processes", f"{two[0]:.3f}", f"{2 * batch / two[0]:.1f}", f"× {faster:.2f}", f"{two[1]:.2%}")
    console.print(table)


if __name__ == "__main__":
    run(app)
