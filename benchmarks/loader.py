"""Pairs a second of the loader, beside webdataset and beside what training needs: ``python -m benchmarks.loader``.

Generated images of 36 regions with 2,048 features and five captions; the tars stay in the page cache. Ours reads pairs
in the order of the plan, draws captions and mismatches, masks and pads. The other is a plain webdataset pipeline over
the same tars: shuffle buffer, ``decode()``, one caption, padding; it masks nothing. They take turns, and each ratio is
the median over the rounds. The need is that of a training step of the base model on this machine, all its cores.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import webdataset
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from benchmarks.model import OURS, Size, make
from benchmarks.shards import BOXES, PIECES, describe, make_sample, race, write_ours
from pretrain.batches import Collator, Steps
from pretrain.config import ModelConfig
from pretrain.model.__main__ import SIZES
from pretrain.order import BatchPlan
from pretrain.recipe import Masking
from pretrain.training.loader import StepLoader
from shards.console import console, run
from shards.reader import ShardSet

SHARD = 125
SHUFFLED = 500
"""Samples of webdataset's shuffle buffer."""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.loader --images 3000 --rounds 5")
def main(
    images: Annotated[int, typer.Option(min=2 * SHARD, help="How many images.")] = 1500,
    epochs: Annotated[int, typer.Option(min=1, help="How often each is read in a round.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs of a batch.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="How often each pair runs.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default: the temporary folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the figures (JSON).")] = None,
) -> None:
    """Time loading."""
    need = _need()
    torch.set_num_threads(1)
    figures = []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        shards = _write(Path(name), images)
        tars = [str(path) for path in sorted(Path(name).glob("*.tar"))]
        pairs = epochs * len(shards)
        for workers, clock in ((0, time.process_time), (1, time.perf_counter), (2, time.perf_counter)):
            ours = partial(read_ours, shards, batch_size, epochs, workers)
            peer = partial(read_webdataset, tars, batch_size, epochs, workers)
            mine, theirs, ratio = race(rounds, ours, peer, clock)
            figures.append({"workers": workers, "ours": pairs / mine, "webdataset": pairs / theirs, "ratio": ratio})
    table = Table("", "ours, pairs/s", "webdataset, pairs/s", "ratio", "ours / need")
    for found in figures:
        process = f"{found['workers']} workers" if found["workers"] else "in the process, of CPU time"
        table.add_row(
            process,
            f"{found['ours']:,.0f}",
            f"{found['webdataset']:,.0f}",
            f"{found['ratio']:.1f}",
            f"{found['ours'] / need:,.0f}",
        )
    console.print(table)
    console.print(f"a training step of the base model: {need:.1f} pairs/s on this machine")
    if out is not None:
        out.write_text(json.dumps({"need": need, "figures": figures}, indent=1) + "\n")


def _write(folder: Path, images: int) -> ShardSet:
    writers = []
    for first in range(0, images, SHARD):
        samples = [make_sample(number) for number in range(first, min(images, first + SHARD))]
        writers.append(write_ours(samples, folder / f"shard-{first:06d}.tar"))
    describe(folder, writers)
    return ShardSet(folder)


def read_ours(shards: ShardSet, batch_size: int, epochs: int, workers: int) -> None:
    """Every batch of some epochs, as one rank gets them."""
    plan = BatchPlan(shards, seed=0, batch_size=batch_size, block_shards=8, mismatch=0.5)
    collator = Collator(shards, seed=0, max_text=64, masking=Masking(), images="own", device_type="cpu")
    steps = range(epochs * plan.steps_per_epoch)
    for _ in StepLoader(Steps(plan, collator, rank=0, ranks=1, accumulation=1), steps, workers=workers):
        pass


def read_webdataset(tars: list[str], batch_size: int, epochs: int, workers: int) -> None:
    """The same number of pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(epochs):
            data = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(SHUFFLED).decode().map(_choose)
            batches = data.batched(batch_size, collation_fn=_stack)
            for _ in DataLoader(batches, batch_size=None, num_workers=workers):
                pass


def _choose(sample: dict[str, Any]) -> tuple[Tensor, ...]:
    """One caption of a sample with its regions and their classes."""
    masks = sample["masks.npz"]
    caption = random.randrange(len(masks["token_offsets"]) - 1)
    first, last = masks["token_offsets"][caption : caption + 2]
    tokens, features = masks["token_ids"][first:last].astype(np.int64), sample["features.npy"].astype(np.float32)
    arrays = (tokens, features, *(sample[f"{name}.npy"] for name in ("boxes", "class_ids", "class_probs")))
    return tuple(torch.from_numpy(array) for array in arrays)


def _stack(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(pad_sequence(list(tensors), batch_first=True) for tensors in zip(*samples, strict=True))


def _need() -> float:
    """Pairs a second that the base model trains on, of the lengths that are read here."""
    size = Size(batch=16, text=PIECES + 2, rows=BOXES + 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contestant = make(OURS, ModelConfig.load(SIZES / "base.json"), size, device)
    optimizer = torch.optim.AdamW(contestant.model.parameters(), lr=1e-5, fused=True)
    fastest = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.autograd.backward(contestant.loss())
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - started)
    return size.batch / fastest


if __name__ == "__main__":
    run(app)
