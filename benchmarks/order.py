"""Time and memory until a batch of a very large set is known: ``python -m benchmarks.order --samples 100000000``.

The index is generated: one caption a sample, 10 to 36 regions of 2,048 features. The tars have the right sizes and no
content (no room is taken on the disk), for the order of pairs follows from manifest and index alone. Each line is a
process of its own that opens the set, makes the plan and asks it for one batch.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.table import Table

from benchmarks.processes import run_alone
from benchmarks.results import publish
from benchmarks.turns import Out
from parsers.command import progress, run
from pretrain.data.order import BatchPlan
from shards import index
from shards.manifest import MANIFEST, Classes, Manifest, ParserInfo, ShardInfo, TokenizerInfo, Totals
from shards.reader import ShardSet
from shards.vocabulary import VOCABULARY

FEATURES = 2048
KINDS = 16
"""Number of different shards, which are repeated."""
VOCABULARY_BYTES = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
app = typer.Typer(add_completion=False)


def write_set(folder: Path, shards: int, samples: int) -> None:
    """Writes a set of shards with ``samples`` samples each, without the content of the tars."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    kinds = [_table(random, samples) for _ in range(min(KINDS, shards))]
    sizes = [_end(table) + 1024 for table in kinds]

    def tables() -> Iterator[pa.Table]:
        with progress("write", shards, "shard") as advance:
            for number in range(shards):
                yield kinds[number % KINDS]
                advance(1)

    checksums = index.write_files(tables(), shards, lambda name, data: (folder / name).write_bytes(data))
    infos = []
    for number in range(shards):
        file, size = f"shard-{number:06d}.tar", sizes[number % KINDS]
        with (folder / file).open("wb") as stream:
            stream.truncate(size)
        infos.append(ShardInfo(file=file, samples=samples, bytes=size, sha256=f"{number:064x}"))
    (folder / VOCABULARY).write_bytes(VOCABULARY_BYTES)
    pieces = sum(sum(kind["tokens"].combine_chunks().values.to_pylist()) for kind in kinds)
    manifest = Manifest(
        tokenizer=TokenizerInfo(sha256=hashlib.sha256(VOCABULARY_BYTES).hexdigest(), size=5),
        parser=ParserInfo(name="benchmark", version="1"),
        feature_size=FEATURES,
        classes=Classes(kind="none", count=None, background=None, names=None),
        totals=Totals(
            samples=shards * samples,
            captions=shards * samples,
            boxes=shards * samples * 23,
            tokens=pieces // len(kinds) * shards,
        ),
        index_sha256=checksums,
        shards=infos,
    )
    (folder / MANIFEST).write_bytes(manifest.to_bytes())


def _table(random: np.random.Generator, samples: int) -> pa.Table:
    """Draws the index rows of a shard."""
    boxes = random.integers(10, 37, samples)
    zero = np.zeros(samples, np.int64)
    sizes = {
        "json": random.integers(400, 900, samples),
        "boxes.npy": 128 + 16 * boxes,
        "features.npy": 128 + 2 * FEATURES * boxes,
        "class_ids.npy": zero,
        "class_probs.npy": zero,
        "masks.npz": random.integers(2_000, 3_000, samples),
    }
    blocks = np.stack([(-(-sizes[member] // 512) + 1) * 512 * (sizes[member] > 0) for member in sizes], axis=1)
    ends = np.cumsum(blocks).reshape(blocks.shape)
    columns = {
        "key": [f"{number:012d}" for number in random.integers(0, 10**12, samples).tolist()],
        "shard": zero,
        "width": random.integers(200, 641, samples),
        "height": random.integers(200, 641, samples),
        "num_boxes": boxes,
        "tokens": pa.ListArray.from_arrays(
            pa.array(np.arange(samples + 1), pa.int32()), pa.array(random.integers(5, 30, samples), pa.int32())
        ),
        "crc32": random.integers(0, 2**32, samples),
    }
    for number, member in enumerate(sizes):
        missing = sizes[member] == 0
        columns[f"{member}_offset"] = pa.array(ends[:, number] - blocks[:, number] + 512, mask=missing)
        columns[f"{member}_size"] = pa.array(sizes[member], mask=missing)
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in index.SCHEMA], index.SCHEMA)


def _end(table: pa.Table) -> int:
    offset, size = (table[f"masks.npz_{what}"][-1].as_py() for what in ("offset", "size"))
    end: int = -(-(offset + size) // 512) * 512
    return end


def plan_of(shards: ShardSet, *, equal_tokens: bool = False) -> BatchPlan:
    """Returns the plan that is measured: batches of 256 pairs, and blocks of 8 shards."""
    return BatchPlan(shards, seed=0, batch_size=256, block_shards=8, mismatch=0.5, equal_tokens=equal_tokens)


@app.command()
def batch(folder: Path, place: float, equal_tokens: bool = False) -> None:
    """Print the costs of the batch at a place, where 0 is the start of the first epoch and 1 that of the second."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    shards = ShardSet(folder)
    opened = time.perf_counter()
    plan = plan_of(shards, equal_tokens=equal_tokens)
    steps = plan.steps_per_epoch
    plan.batch(int(place * steps))
    found = time.perf_counter()
    plan.batch(int(place * steps) + 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(opened - started, found - opened, time.perf_counter() - found, peak / 1024, before / 1024)


@app.command()
def measure(
    samples: Annotated[int, typer.Option(help="Number of samples.")] = 100_000_000,
    shard: Annotated[list[int] | None, typer.Option(help="Number of samples of a shard; may be repeated.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder with room for 50 bytes a sample.")] = None,
    out: Out = None,
) -> None:
    """Measure sets of shards of different sizes."""
    table = Table(
        "samples a shard", "batch", "open s", "first batch s", "next batch s", "peak MB", "of which imports",
        title=f"{samples:,} samples", title_justify="left",
    )  # fmt: skip
    for of_shard in shard or [10_000, 1_000]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            write_set(Path(name), samples // of_shard, of_shard)
            # The last batch of an epoch, where windows of both epochs meet, comes with the first of the next.
            places = (("first", 0.0), ("middle", 0.5), ("epoch edge", 1 - 256 / samples))
            for what, place in places:
                command = [sys.executable, "-m", "benchmarks.order", "batch", name, str(place)]
                _, output = run_alone(command)
                opened, first, following, peak, imports = map(float, output.split())
                table.add_row(
                    f"{of_shard:,}", what, f"{opened:.2f}", f"{first:.2f}", f"{following:.2f}", f"{peak:,.0f}",
                    f"{imports:,.0f}",
                )  # fmt: skip
    publish([table], [], out)


if __name__ == "__main__":
    run(app)
