"""Pairs a second of the loader, beside webdataset and beside what training needs: ``python -m benchmarks.loader``.

Generated images of 36 regions with 2,048 features and five captions; the tars stay in the page cache. Ours reads pairs
in the order of the plan, draws captions and mismatches, masks and pads. The other is a plain webdataset pipeline over
the same tars: shuffle buffer, ``decode()``, one caption, padding; it masks nothing. They take turns, in seconds of the
CPU; with worker processes by the wall clock. A training step of the model stands beside, on one thread of the CPU.
"""

from __future__ import annotations

import random
import tempfile
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

from benchmarks.model import OURS, BatchShape, make
from benchmarks.results import publish
from benchmarks.samples import BOXES, PIECES, write_set
from benchmarks.shards import WEBDATASET, race
from benchmarks.turns import ROUNDS, Out, Rounds, cpu, machine, ratio, spread, take_turns
from parsers.command import run
from pretrain.data.batches import Collator, StepDataset
from pretrain.data.order import BatchPlan
from pretrain.model.config import ModelConfig
from pretrain.recipe import Masking
from pretrain.training.loader import StepLoader
from shards.reader import ShardSet

SHARD = 125
SHUFFLED = 500
"""Samples of webdataset's shuffle buffer."""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.loader --num-images 3000 --rounds 5")
def main(
    images: Annotated[int, typer.Option("--num-images", min=2 * SHARD, help="Number of images.")] = 750,
    epochs: Annotated[int, typer.Option(min=1, help="How often each image is read in a round.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs of a batch.")] = 64,
    config: Annotated[str, typer.Option("--size", help="Size of the model that is trained.")] = "base",
    rounds: Rounds = ROUNDS,
    folder: Annotated[Path | None, typer.Option(help="Folder to write in; default: the temporary folder.")] = None,
    out: Out = None,
) -> None:
    """Time loading."""
    torch.set_num_threads(1)
    step = _step(ModelConfig.of_size(config), rounds)
    races = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        write_set(Path(name), images, shard=SHARD)
        shards = ShardSet(Path(name))
        tars = [str(path) for path in sorted(Path(name).glob("*.tar"))]
        pairs = epochs * len(shards)
        for workers in (0, 1, 2):
            ours = partial(read_ours, shards, batch_size, epochs, workers)
            peer = partial(read_webdataset, tars, batch_size, epochs, workers)
            races[workers] = race(
                f"load and mask batches, workers: {workers}", WEBDATASET, rounds, ours, peer, by_clock=workers > 0,
                fair="the same tars and as many pairs, decoded, one caption drawn, padded. Ours also follows the plan, "
                "draws mismatched pairs and masks; the plain pipeline masks nothing. With workers it is the wall "
                "clock.",
            )  # fmt: skip
    title = f"{images:,} images; {machine()}"
    columns = ("", "clock", "ours, pairs/s", "peer, pairs/s", "as fast", "others' cores")
    table = Table(*columns, title=title, title_justify="left")
    for found in races.values():
        mine, theirs = found.seconds()
        rates = f"{pairs / spread(mine).median:,.0f}", f"{pairs / spread(theirs).median:,.0f}"
        table.add_row(*found.row(*rates, f"× {ratio(mine, theirs):.1f}"))
    loading = spread(cpu(races[0].ours)).median / pairs
    line = f"A training step of {config} takes {step / loading:,.0f} times the CPU time of loading its pairs."
    comparisons = [found.compare("ms a pair", 1000 / pairs) for found in races.values()]
    publish([table, line], comparisons, out)


def read_ours(shards: ShardSet, batch_size: int, epochs: int, workers: int) -> None:
    """Reads every batch of some epochs, as one rank gets them."""
    plan = BatchPlan(shards, seed=0, batch_size=batch_size, block_shards=8, mismatch=0.5)
    collator = Collator(shards, seed=0, max_text=64, masking=Masking(), images="own", device_type="cpu")
    steps = range(epochs * plan.steps_per_epoch)
    for _ in StepLoader(StepDataset(plan, collator, rank=0, ranks=1, accumulation=1), steps, workers=workers):
        pass


def read_webdataset(tars: list[str], batch_size: int, epochs: int, workers: int) -> None:
    """Reads the same number of pairs with webdataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(epochs):
            data = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(SHUFFLED).decode().map(_choose)
            batches = data.batched(batch_size, collation_fn=_stack)
            for _ in DataLoader(batches, batch_size=None, num_workers=workers):
                pass


def _choose(sample: dict[str, Any]) -> tuple[Tensor, ...]:
    """Returns one caption of a sample with its regions and their classes."""
    masks = sample["masks.npz"]
    caption = random.randrange(len(masks["token_offsets"]) - 1)
    first, last = masks["token_offsets"][caption : caption + 2]
    tokens, features = masks["token_ids"][first:last].astype(np.int64), sample["features.npy"].astype(np.float32)
    arrays = (tokens, features, *(sample[f"{name}.npy"] for name in ("boxes", "class_ids", "class_probs")))
    return tuple(torch.from_numpy(array) for array in arrays)


def _stack(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(pad_sequence(list(tensors), batch_first=True) for tensors in zip(*samples, strict=True))


def _step(config: ModelConfig, rounds: int) -> float:
    """Returns the seconds of the CPU that training takes for a pair of the lengths that are read here."""
    size = BatchShape(batch=16, text=PIECES + 2, rows=BOXES + 1)
    contestant = make(OURS, config, size, torch.device("cpu"))
    optimizer = torch.optim.AdamW(contestant.model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        torch.autograd.backward(contestant.loss())
        optimizer.step()
        optimizer.zero_grad()

    return spread(cpu(take_turns({"step": step}, rounds)["step"])).median / size.batch


if __name__ == "__main__":
    run(app)
