"""Reading and writing shards, beside webdataset, ViLBERT's LMDB and ``cp``: ``python -m benchmarks.shards``.

Generated images of 36 regions with 2,048 features, their 20 most likely classes and five captions. One process and one
thread each. Every array that is read, on either side, is copied into a torch tensor and summed. The contestants take
turns, round after round. Seconds are those of the CPU; where two workers write, those of the wall clock.
"""

from __future__ import annotations

import base64
import io
import multiprocessing
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import lmdb
import numpy as np
import torch
import typer
import webdataset
from rich.table import Table

from benchmarks.results import Comparison, compare, publish
from benchmarks.samples import BOXES, describe, make_sample, write_ours, write_shard
from benchmarks.turns import ROUNDS, Out, Rounds, Turn, cpu, machine, others, ratio, spread, take_turns, wall
from parsers.command import run
from shards.reader import ShardSet
from shards.schema import (
    Array,
    Sample,
)
from shards.storage.files import NewFile, flush
from shards.writer import ShardWriter

SHARDS = 4
WEBDATASET = f"webdataset {version('webdataset')}"
app = typer.Typer(add_completion=False)


# ------------------------------------------------------------------------------------------------------------- writing


def write_flushed(samples: list[Sample], path: Path) -> None:
    """Writes a shard as `pipeline.pack` does: it appears when it is complete and on the disk."""
    file = NewFile(path)
    write_shard(samples, file.stream, path.name)
    file.flush()
    file.publish()


def write_webdataset(samples: list[Sample], path: Path, *, compress: bool) -> None:
    """Writes the same samples with webdataset. Its own ``npz`` compresses; else NumPy makes those bytes."""
    with webdataset.TarWriter(str(path), mtime=0, user="", group="") as writer:
        for sample in samples:
            regions = sample.regions
            masks = {field.name: getattr(sample.masks, field.name) for field in fields(sample.masks)}
            stream = io.BytesIO()
            if not compress:
                np.savez(stream, **masks)
            writer.write(
                {
                    "__key__": sample.image_id,
                    "json": _record(sample),
                    "boxes.npy": regions.boxes,
                    "features.npy": regions.features,
                    "class_ids.npy": regions.class_ids,
                    "class_probs.npy": regions.class_probs,
                    "masks.npz": masks if compress else stream.getvalue(),
                }
            )


def _record(sample: Sample) -> dict[str, Any]:
    captions = [{"caption_id": c.caption_id, "text": c.text, "graph": c.graph.to_dict()} for c in sample.captions]
    return {"image_id": sample.image_id, "width": sample.width, "height": sample.height, "captions": captions}


def write_lmdb(samples: list[Sample], path: Path) -> None:
    """ViLBERT's layout: one pickled dict of base64 float32 an image, and the list of keys."""
    with lmdb.open(str(path), map_size=1 << 34) as environment, environment.begin(write=True) as transaction:
        for sample in samples:
            regions = sample.regions
            assert regions.class_probs is not None
            item = {
                "image_id": sample.image_id.encode(),
                "image_w": b"640",
                "image_h": b"480",
                "num_boxes": str(BOXES).encode(),
                "boxes": base64.b64encode(regions.boxes.astype(np.float32).tobytes()),
                "features": base64.b64encode(regions.features.astype(np.float32).tobytes()),
                "cls_prob": base64.b64encode(regions.class_probs.astype(np.float32).tobytes()),
            }
            transaction.put(sample.image_id.encode(), pickle.dumps(item))
        transaction.put(b"keys", pickle.dumps([sample.image_id.encode() for sample in samples]))


def copy(source: Path, target: Path) -> None:
    """Copies the same bytes with ``cp``, and flushes them to the disk like a shard."""
    with source.open("rb") as read, target.open("wb") as write:
        while block := read.read(1 << 20):
            write.write(block)
    flush(target)


# ------------------------------------------------------------------------------------------------------------- reading


def consume(arrays: Iterator[Array]) -> float:
    """Copies each array into a tensor and adds up its numbers."""
    return sum(float(torch.from_numpy(np.array(array)).sum(dtype=torch.float32)) for array in arrays)


def read_ours(shards: ShardSet, order: list[tuple[int, int]], *, everything: bool = True) -> float:
    """Regions, and where ``everything`` is wanted also masks and the record with its graphs."""
    total = 0.0
    for shard, row in order:
        regions = shards.regions(shard, row)
        parts: list[Any] = [regions.boxes, regions.features, regions.class_probs]
        if everything:
            masks = shards.masks(shard, row)
            parts += [regions.class_ids, *(getattr(masks, field.name) for field in fields(masks))]
            total += len(shards.record(shard, row)[3])
        total += consume(iter(parts))
    return total


def read_webdataset(tars: list[str], shuffle: int) -> float:
    """All that webdataset decodes of a sample; with a shuffle buffer where one is given."""
    total = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = webdataset.WebDataset(tars, shardshuffle=len(tars) if shuffle else False)
        if shuffle:
            data = data.shuffle(shuffle)
        for sample in data.decode():
            arrays = [sample[f"{name}.npy"] for name in ("boxes", "features", "class_ids", "class_probs")]
            total += consume(iter([*arrays, *sample["masks.npz"].values()])) + len(sample["json"]["captions"])
    return total


def read_lmdb(path: Path, shuffle: bool) -> float:
    """Reads as ViLBERT's reader does, image by image."""
    total = 0.0
    with lmdb.open(str(path), readonly=True, lock=False, readahead=False) as environment:
        with environment.begin(buffers=True) as transaction:
            keys = pickle.loads(transaction.get(b"keys") or b"")
        for number in np.random.default_rng(0).permutation(len(keys)) if shuffle else range(len(keys)):
            with environment.begin() as transaction:
                item = pickle.loads(transaction.get(keys[number]) or b"")
            n = int(item["num_boxes"])
            names = ("boxes", "features", "cls_prob")
            arrays = (np.frombuffer(base64.b64decode(item[name]), np.float32).reshape(n, -1) for name in names)
            total += consume(arrays)
    return total


# ------------------------------------------------------------------------------------------------------------- the race


@dataclass(frozen=True)
class Race:
    """We and a peer, in turns."""

    name: str
    peer: str
    """its name and version"""
    by_clock: bool
    """whether the wall clock counts instead of the CPU"""
    fair: str
    """what is compared, and why that is fair"""
    ours: list[Turn]
    theirs: list[Turn]

    def seconds(self) -> tuple[list[float], list[float]]:
        """Ours and theirs, by round."""
        clock = wall if self.by_clock else cpu
        return clock(self.ours), clock(self.theirs)

    def compare(self, unit: str = "s", scale: float = 1.0) -> Comparison:
        """Returns the line of the page of results; see `benchmarks.results.compare`."""
        clock = "wall" if self.by_clock else "CPU"
        return compare(self.name, self.peer, *self.seconds(), fair=self.fair, clock=clock, unit=unit, scale=scale)

    def row(self, ours: str, theirs: str, faster: str) -> tuple[str, ...]:
        """Returns a row of the table: name, clock, the three given cells, and how many cores others kept busy.

        Args:
            ours: our seconds.
            theirs: the peer's seconds.
            faster: their seconds divided by ours.
        """
        name = f"{self.name}, {self.peer}"
        return name, "wall" if self.by_clock else "CPU", ours, theirs, faster, others(self.ours + self.theirs)


def race(
    name: str,
    peer: str,
    rounds: int,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    fair: str,
    by_clock: bool = False,
) -> Race:
    """Times two contestants."""
    turns = take_turns({"ours": ours, "theirs": theirs}, rounds)
    return Race(name, peer, by_clock, fair, turns["ours"], turns["theirs"])


def _write_in_worker(first: int, last: int, path: Path) -> None:
    write_flushed(_made[first:last], path)


_made: list[Sample] = []


@app.command(epilog="Example: python -m benchmarks.shards --num-images 3000 --rounds 5")
def main(
    images: Annotated[int, typer.Option("--num-images", min=SHARDS, help="How many images.")] = 1500,
    rounds: Rounds = ROUNDS,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default: the temporary folder.")] = None,
    out: Out = None,
) -> None:
    """Time reading and writing."""
    torch.set_num_threads(1)
    _made.extend(make_sample(number) for number in range(images))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        races = list(_compare(Path(temporary), rounds))
    title = f"{images:,} images; {machine()}"
    table = Table("", "clock", "ours s", "peer s", "peer / ours", "others' cores", title=title, title_justify="left")
    for found in races:
        ours, theirs = found.seconds()
        figures = f"{spread(ours).median:.2f}", f"{spread(theirs).median:.2f}", f"{ratio(ours, theirs):.2f}"
        table.add_row(*found.row(*figures))
    publish([table], [found.compare() for found in races], out)


def _compare(folder: Path, rounds: int) -> Iterator[Race]:
    ours, theirs, copied = (folder / name for name in ("ours", "webdataset", "copied"))
    for path in (ours, theirs, copied):
        path.mkdir()
    ends = [len(_made) * number // SHARDS for number in range(SHARDS + 1)]  # each of two workers has as much to do
    cuts = [(first, last, f"shard-{first:05d}.tar") for first, last in pairwise(ends)]

    def write_all() -> list[ShardWriter]:
        return [write_ours(_made[first:last], ours / name) for first, last, name in cuts]

    def write_peer(*, compress: bool) -> None:
        for first, last, name in cuts:
            write_webdataset(_made[first:last], theirs / name, compress=compress)

    def copy_all() -> None:
        for *_, name in cuts:
            copy(ours / name, copied / name)

    for peer, compress in ((f"{WEBDATASET}, TarWriter", True), (f"{WEBDATASET}, masks by numpy.savez", False)):
        yield race(
            "write shards", peer, rounds, write_all, partial(write_peer, compress=compress),
            fair="the same samples become tars with the same members. Ours also checks each sample and computes the "
            "crc32 of the sample and the sha256 of the tar. The peer's own `npz` compresses the masks; without "
            "that its files are as large as ours.",
        )  # fmt: skip
    jobs = [(first, last, ours / name) for first, last, name in cuts]
    # Forked workers have the samples already. The executor waits until they end, where a pool would send them SIGTERM;
    # they inherit this command's way with it, and Python may miss a signal that comes just before it waits for a lock.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:

        def write_in_two() -> None:
            list(pool.map(_write_in_worker, *zip(*jobs, strict=True)))

        yield race(
            "write shards with two workers, flushed", "cp of the same bytes, flushed", rounds, write_in_two, copy_all,
            by_clock=True,
            fair="copying the finished tars is the least that any writer must do: no sample is made, checked or "
            "hashed. So this ratio can hardly reach 1.",
        )  # fmt: skip
    describe(ours, write_all())
    write_lmdb(_made, folder / "lmdb")

    shards = ShardSet(ours)
    in_order = list(shards)
    shuffled = [in_order[i] for i in np.random.default_rng(0).permutation(len(in_order))]
    tars = [str(ours / name) for *_, name in cuts]
    for name, order, buffer in (("in order", in_order, 0), ("shuffled", shuffled, 1000)):
        contestants = partial(read_ours, shards, order), partial(read_webdataset, tars, buffer)
        yield race(
            f"read everything {name}", f"{WEBDATASET}, decode()", rounds, *contestants,
            fair="both read the same tars from the page cache, and every array is copied into a tensor and summed. "
            "Shuffled, ours reads in one random order of all samples, the peer through its shuffle buffer of "
            "1,000.",
        )  # fmt: skip
    for name, order in (("in order", in_order), ("shuffled", shuffled)):
        regions = partial(read_ours, shards, order, everything=False)
        theirs_read = partial(read_lmdb, folder / "lmdb", order is shuffled)
        yield race(
            f"read regions {name}", f"ViLBERT's LMDB, lmdb {version('lmdb')}", rounds, regions, theirs_read,
            fair="boxes, features and probabilities of the same images, as ViLBERT stores and reads them: a pickled "
            "dict of base64 for each image. Masks and graphs are not read, because the LMDB has none.",
        )  # fmt: skip


if __name__ == "__main__":
    run(app)
