"""The training loop beside the bare step, and on two processes: ``python -m benchmarks.training``.

Generated shards of 36 regions with 2,048 features are trained on by ``pretrain/run.py`` as users start it, one thread a
process, on the CPU. The bare step is that of ``benchmarks.model``: the same model and batch size, one batch over and
over, neither data nor log. All take turns; each figure is the median of a run's steps, by the wall clock, for waiting
is the point here.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from rich.table import Table

from benchmarks.model import OURS, BatchShape, make
from benchmarks.results import Comparison, compare, publish
from benchmarks.samples import BOXES, PIECES, write_set
from benchmarks.turns import ROUNDS, Out, Rounds, Turn, machine, others, ratio, spread, take_turns
from parsers.command import InputError, run
from pretrain.model.config import SIZES, ModelConfig

WARM_UP = 3
"""First steps of a run, which are not timed."""
TRAINER = Path(__file__).resolve().parents[1] / "pretrain/run.py"
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.training --size base --steps 20")
def main(
    config: Annotated[str, typer.Option("--size", help="Size of the model.")] = "base",
    batch: Annotated[int, typer.Option("--batch-size", min=2, help="Pairs of each process in a batch.")] = 4,
    steps: Annotated[int, typer.Option(min=WARM_UP + 1, help="Steps of a run.")] = 7,
    rounds: Rounds = ROUNDS,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read, for each that trains.")] = 1,
    out: Out = None,
) -> None:
    """Time the training loop."""
    model_config = ModelConfig.of_size(config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = folder / "shards"
        shards.mkdir()
        write_set(shards, 20 * batch, shard=20 * batch)
        recipe = {
            "model": str(SIZES / f"{config}.json"),
            "steps": steps,
            "workers": workers,
            "log_every": 1,
            "checkpoint_every": steps,
        }
        size = BatchShape(batch, PIECES + 2, BOXES + 1)
        contestants: dict[int, Callable[[], object]] = {0: partial(_bare_step, model_config, size, steps)}
        for ranks in (1, 2):
            contestants[ranks] = partial(_train, recipe | {"batch_size": batch * ranks}, shards, folder, ranks)
        turns = take_turns(contestants, rounds, warm_up=False)
    title = f"{config}, {batch} pairs a process, one thread each; {machine()}"
    publish([_tabulate(title, batch, turns)], list(_compare(batch, turns)), out)


def _bare_step(config: ModelConfig, size: BatchShape, steps: int) -> float:
    """Returns the seconds of a step without a loop around it."""
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


def _train(recipe: dict[str, object], shards: Path, folder: Path, ranks: int) -> tuple[float, float]:
    """Returns the seconds of a step, and the share of it that was spent waiting for data."""
    out = Path(tempfile.mkdtemp(dir=folder))
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [sys.executable, *launcher, str(TRAINER), "--config", str(file), "--shards", str(shards)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINER.parents[1])}
    done = subprocess.run([*command, "--out", str(out)], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"the run on {ranks} processes has failed:\n{done.stdout}{done.stderr}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][WARM_UP:]
    shutil.rmtree(out)  # with a checkpoint of gigabytes
    pairs = int(str(recipe["batch_size"]))
    return (
        pairs / statistics.median(line["samples_per_second"] for line in lines),
        statistics.median(line["data_wait_share"] for line in lines),
    )


def _compare(batch: int, turns: dict[int, list[Turn]]) -> Iterator[Comparison]:
    bare = [turn.result for turn in turns[0]]
    one, two = ([turn.result[0] for turn in turns[ranks]] for ranks in (1, 2))
    yield compare(
        "the training loop",
        "its bare step",
        one,
        bare,
        clock="wall",
        unit="s a step",
        fair="the bare step has the same model, batch size and optimiser, one batch over and over: no data, no "
        "clipping, no log, no checkpoint. So this ratio can hardly reach 1. It is the median step of a run, after "
        "a warm-up.",
    )
    yield compare(
        "the training loop on two processes",
        "the loop on one",
        [seconds / 2 / batch for seconds in two],
        [seconds / batch for seconds in one],
        clock="wall",
        unit="s a pair",
        fair="the same number of pairs and one thread in each process, so two processes have twice as much to do on "
        "the two cores of one machine. 2.0 would be perfect.",
    )


def _tabulate(title: str, batch: int, turns: dict[int, list[Turn]]) -> Table:
    table = Table(
        "", "seconds a step", "pairs/s", "beside the line above", "waiting for data", "others' cores",
        title=title, title_justify="left",
    )  # fmt: skip
    bare = [turn.result for turn in turns[0]]
    one, two = ([turn.result[0] for turn in turns[ranks]] for ranks in (1, 2))
    waits = {ranks: spread(turn.result[1] for turn in turns[ranks]) for ranks in (1, 2)}
    table.add_row(
        "bare step", f"{spread(bare).median:.3f}", f"{batch / spread(bare).median:.1f}", "", "", others(turns[0])
    )
    table.add_row(
        "loop", f"{spread(one).median:.3f}", f"{batch / spread(one).median:.1f}", f"× {ratio(one, bare):.2f} as fast",
        f"{waits[1].median:.2%}", others(turns[1]),
    )  # fmt: skip
    twice = [seconds / 2 for seconds in two]
    table.add_row(
        "2 processes", f"{spread(two).median:.3f}", f"{batch / spread(twice).median:.1f}", f"× {ratio(twice, one):.2f}",
        f"{waits[2].median:.2%}", others(turns[2]),
    )  # fmt: skip
    return table


if __name__ == "__main__":
    run(app)
