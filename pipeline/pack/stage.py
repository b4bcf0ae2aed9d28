"""Graphs and regions to shards: ``python -m pipeline.pack --graphs DIR --regions DIR --tokenizer VOCAB --out DIR``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from parsers.command import InputError
from parsers.graph import SceneGraph
from pipeline.execution.parts import Part, Reject
from pipeline.files import fingerprint, is_local
from pipeline.graph_table import GRAPHS_VERSION
from pipeline.pack.join import Accounts, Fate, Join, Text, join, read_id_lists, read_id_map
from pipeline.pack.word_pieces import make_masks
from shards import index
from shards.index import IndexRow
from shards.manifest import MANIFEST, SCHEMA_VERSION, Classes, Manifest, ParserInfo, ShardInfo, TokenizerInfo, Totals
from shards.regions.table import RegionsInfo, RegionsRow, read_rows
from shards.schema import Array, Caption, Regions, Sample
from shards.stage_folder import parts_of, read_metadata
from shards.storage.files import AnyPath, sha256_of, write_atomic, write_indented_json
from shards.storage.parquet import parquet_file
from shards.tokenizer import load_tokenizer
from shards.vocabulary import VOCABULARY, read_vocabulary
from shards.writer import ShardWriter

TRAIN, VAL = "train", "val"
ACCOUNTS = "accounts.json"
SPLITS = {Fate.PACKED: TRAIN, Fate.HELD_OUT: VAL}
KINDS = {TRAIN: "packed", VAL: "held out"}
"""What the accounts call the images of a split."""


@dataclass(frozen=True)
class Rows:
    """A partition: a run of rows of one part of the regions, with their captions, so that a worker needs no more."""

    regions: AnyPath
    start: int
    end: int
    image_ids: list[str]
    fates: Array
    """uint8 [end - start], of `pipeline.pack.join.Fate`"""
    caption_counts: Array
    """int64 [end - start]"""
    captions: pa.Table
    """Of the graphs' schema, row by row."""


@dataclass(frozen=True)
class PackStage:
    """Joins captions and regions by image id and writes them as shards.

    Regions are streamed once. Each partition becomes one shard of ``train`` and, with ``holdout``, one of ``val``.
    """

    graphs: tuple[AnyPath, ...]
    regions: tuple[AnyPath, ...]
    tokenizer: Path
    out: AnyPath
    holdout: float
    shard_size: int
    class_top_k: int | None
    exclude_ids: tuple[AnyPath, ...] = ()
    id_map: AnyPath | None = None
    name: str = "pack"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "graphs": [fingerprint(part) for folder in self.graphs for part in parts_of(folder)],
            "regions": [fingerprint(part) for folder in self.regions for part in parts_of(folder)],
            "tokenizer": sha256_of(self.tokenizer),
            "holdout": self.holdout,
            "shard_size": self.shard_size,
            "class_top_k": self.class_top_k,
            "exclude_ids": hashlib.sha256("\n".join(self.excluded.to_pylist()).encode()).hexdigest(),
            "id_map": None if self.id_map is None else fingerprint(self.id_map),
            "schema_version": SCHEMA_VERSION,
        }

    def total(self) -> int | None:
        """Not known before the join is planned."""
        return None

    def estimated_bytes(self) -> int:
        """See `pipeline.execution.executor.Stage`."""
        folders = (*self.graphs, *self.regions)
        return sum(part.stat().st_size for folder in folders for part in parts_of(folder))

    @cached_property
    def excluded(self) -> pa.Array:
        """The image ids that must not be packed, sorted."""
        lists = read_id_lists(self.exclude_ids).values()
        return pa.array(sorted(frozenset().union(*lists)), pa.large_string())

    @cached_property
    def info(self) -> RegionsInfo:
        """What holds for all regions; folders that differ are refused."""
        found = {folder: RegionsInfo.from_file(parts_of(folder)[0]) for folder in self.regions}
        (first, info), *others = found.items()
        for folder, other in others:
            if other != info:
                raise InputError(
                    f"{first} and {folder} cannot be packed together: feature size {info.feature_size} and "
                    f"{other.feature_size}, classes {info.classes.kind} ({info.classes.count}) and "
                    f"{other.classes.kind} ({other.classes.count})"
                )
        return info

    @cached_property
    def parser(self) -> ParserInfo:
        """The parser of all graphs; folders that differ are refused."""
        found = {}
        for folder in self.graphs:
            for part in parts_of(folder):
                metadata = read_metadata(part, "graphs_version", GRAPHS_VERSION)
                found[ParserInfo(name=metadata["parser"], version=metadata["parser_version"])] = folder
        if len(found) != 1:
            parsers = ", ".join(f"{info.name} {info.version} in {folder}" for info, folder in found.items())
            raise InputError(f"the graphs to pack come from different parsers: {parsers or 'none'}")
        return next(iter(found))

    # ------------------------------------------------------------------------------------------------------- planning

    def partitions(self) -> Iterator[Rows]:
        """Runs of regions that hold ``shard_size`` images with captions."""
        with contextlib.ExitStack() as stack:
            # Beside the output if that is on a disk: it is as large as the graphs.
            scratch = stack.enter_context(tempfile.TemporaryDirectory()) if not is_local(self.out) else str(self.out)
            path = Path(scratch) / "captions.arrow"
            stack.callback(path.unlink, missing_ok=True)
            text = Text(self.graphs, path)
            plan = self._join(text)
            for part in plan.parts:
                packed = part.fates <= Fate.HELD_OUT
                counts = np.cumsum(packed)
                cuts = np.searchsorted(counts, np.arange(self.shard_size, packed.sum(), self.shard_size)) + 1
                for start, end in pairwise([0, *cuts.tolist(), len(packed)]):
                    images = part.images[start:end][packed[start:end]]
                    caption_counts = np.zeros(end - start, np.int64)
                    caption_counts[packed[start:end]] = text.counts[images]
                    yield Rows(
                        part.path,
                        start,
                        end,
                        list(part.image_ids[start:end]),
                        part.fates[start:end],
                        caption_counts,
                        text.take(images),
                    )

    def _join(self, text: Text) -> Join:
        id_map = {} if self.id_map is None else read_id_map(self.id_map)
        plan = join(text, self.regions, self.excluded, id_map, lambda image_id: is_held_out(image_id, self.holdout))
        for name, ids in (
            ("images-without-regions", plan.without_regions),
            ("images-without-captions", plan.without_captions),
        ):
            write_atomic(self.out / f"{name}.txt", "".join(f"{image_id}\n" for image_id in ids).encode())
        planned = {"images": vars(plan.images), "captions": vars(plan.captions)}
        write_indented_json(planned, self.out / ACCOUNTS)
        return plan

    # -------------------------------------------------------------------------------------------------------- packing

    def worker(self) -> Callable[[Rows, Part], None]:
        """Opens the tokenizer; see `pipeline.execution.executor.Stage`."""
        tokenizer = load_tokenizer(self.tokenizer)
        feature_size = self.info.feature_size

        def pack(rows: Rows, part: Part) -> None:
            with contextlib.ExitStack() as stack:
                shards: dict[str, ShardWriter] = {}
                first = 0
                for number, row in enumerate(_read_rows(rows, feature_size)):
                    part.statistics["rows"] += 1
                    fate, image_id = Fate(rows.fates[number]), rows.image_ids[number]
                    table = rows.captions.slice(first, int(rows.caption_counts[number]))
                    first += len(table)
                    if fate == Fate.REPEATED:
                        part.rejects.append(Reject(str(rows.regions), image_id, "the image has regions already"))
                    if fate not in SPLITS:
                        continue
                    split = SPLITS[fate]
                    try:
                        sample = self._sample(image_id, row, table, tokenizer)
                        if split not in shards:
                            shards[split] = stack.enter_context(_shard(part, split))
                        shards[split].write(sample)
                        kind = KINDS[split]
                    except ValueError as error:
                        part.rejects.append(Reject(str(rows.regions), image_id, str(error)))
                        kind = "rejected"
                    part.statistics[f"images {kind}"] += 1
                    part.statistics[f"captions {kind}"] += len(table)

        return pack

    def _sample(self, image_id: str, row: RegionsRow | ValueError, table: pa.Table, tokenizer: Tokenizer) -> Sample:
        if isinstance(row, ValueError):
            raise row
        row.regions.check(row.width, row.height)  # before a shard is opened: one without samples is no shard
        records = table.to_pylist()
        captions = tuple(Caption(r["caption_id"], r["caption"], SceneGraph.from_dict(r["caption"], r)) for r in records)
        masks = make_masks(captions, tokenizer, [r["segments"] or () for r in records])
        regions = _keep_top(row.regions, self.class_top_k)
        return Sample(image_id, row.width, row.height, captions, regions, masks)

    # -------------------------------------------------------------------------------------------------------- merging

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Merges the parts' indices and writes each split's vocabulary, index and, last, manifest."""
        for split in (TRAIN, VAL):
            numbers = [number for number in range(parts) if (out / _index_part(number, split)).is_file()]
            if numbers:
                self._write_split(out, split, numbers)
        self._close_accounts(out, statistics)
        if not any((out / split / MANIFEST).is_file() for split in (TRAIN, VAL)):
            raise InputError(
                "no image has both captions and regions: nothing to pack. Compare the image ids in "
                f"{out / 'images-without-regions.txt'} and {out / 'images-without-captions.txt'}"
            )

    def _write_split(self, out: AnyPath, split: str, parts: list[int]) -> None:
        folder, infos, totals = out / split, [], Totals()

        def rows() -> Iterator[list[IndexRow]]:
            nonlocal totals
            for number in parts:
                shard = json.loads((out / _index_part(number, split)).read_bytes())
                infos.append(ShardInfo(**shard["info"]))
                totals += Totals(**shard["totals"])
                yield [IndexRow(**row) for row in shard["rows"]]

        vocabulary = self.tokenizer.read_bytes()
        write_atomic(folder / VOCABULARY, vocabulary)
        index_sha256 = index.write_files(rows(), len(parts), lambda name, data: write_atomic(folder / name, data))
        classes = self.info.classes
        manifest = Manifest(
            tokenizer=TokenizerInfo(
                sha256=hashlib.sha256(vocabulary).hexdigest(), size=len(read_vocabulary(self.tokenizer))
            ),
            parser=self.parser,
            feature_size=self.info.feature_size,
            classes=_classes_of_shards(classes, self.class_top_k),
            totals=totals,
            index_sha256=index_sha256,
            shards=infos,
        )
        write_atomic(folder / MANIFEST, manifest.to_bytes())

    def _close_accounts(self, out: AnyPath, found: Counter[str]) -> None:
        """Adds what the workers counted, and checks that nothing was lost."""
        accounts = read_accounts(out)
        for what, account in accounts.items():
            kinds = {**account.kinds, **{kind: found[f"{what} {kind}"] for kind in (*KINDS.values(), "rejected")}}
            if sum(kinds.values()) != account.total:
                raise InputError(f"{out}: of {account.total:,} {what}, {kinds} are accounted for; please report this")
            accounts[what] = Accounts(account.total, kinds)
        record = {what: vars(account) for what, account in accounts.items()}
        write_indented_json(record, out / ACCOUNTS)


def read_accounts(out: AnyPath) -> dict[str, Accounts]:
    """What became of the images and captions of a pack."""
    return {what: Accounts(**record) for what, record in json.loads((out / ACCOUNTS).read_bytes()).items()}


def is_held_out(image_id: str, share: float) -> bool:
    """Whether an image belongs to the held-out split: decided by a hash of its id alone."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _index_part(part: int, split: str) -> str:
    return f"parts/part-{part:05d}.{split}.json"


@contextlib.contextmanager
def _shard(part: Part, split: str) -> Iterator[ShardWriter]:
    """A shard of a part, and beside it the rows of its index."""
    file = f"shard-{part.number:05d}.tar"
    with part.open(f"{split}/{file}") as stream, ShardWriter(stream, file) as writer:
        yield writer
    with part.open(_index_part(part.number, split)) as stream:
        record = {
            "info": writer.info.model_dump(),
            "totals": writer.totals.model_dump(),
            "rows": list(map(asdict, writer.rows)),
        }
        stream.write(json.dumps(record, separators=(",", ":")).encode())


def _read_rows(rows: Rows, feature_size: int) -> Iterator[RegionsRow | ValueError]:
    """The rows ``start:end`` of a part; only the row groups that hold them are read."""
    file = parquet_file(rows.regions)
    first = 0
    for group in range(file.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows
        if first < rows.end and last > rows.start:
            low, high = max(rows.start, first) - first, min(rows.end, last) - first
            yield from read_rows(file.read_row_group(group, use_threads=False).slice(low, high - low), feature_size)
        first = last


def _keep_top(regions: Regions, k: int | None) -> Regions:
    if k is None or regions.class_ids is None or regions.class_probs is None:
        return regions
    return Regions(regions.boxes, regions.features, regions.class_ids[:, :k], regions.class_probs[:, :k])


def _classes_of_shards(classes: Classes, k: int | None) -> Classes:
    if k is None or classes.kind != "distribution" or (classes.count or 0) <= k:
        return classes
    return classes.model_copy(update={"kind": "top-k"})
