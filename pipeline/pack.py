"""Graphs and regions to shards: ``python -m pipeline.pack --graphs DIR --regions DIR --tokenizer VOCAB --out DIR``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import typer

from parsers.graph import SceneGraph
from pipeline.executor import Part, Reject, file_fingerprint, print_report, run_stage, write_atomic
from pipeline.tables import (
    GRAPHS_VERSION,
    REGIONS_VERSION,
    RegionsInfo,
    RegionsRow,
    parts_of,
    read_metadata,
)
from pipeline.word_pieces import load_tokenizer, make_masks
from shards import index
from shards.console import console, run
from shards.errors import InputError
from shards.reader import INDEX, MANIFEST, VOCABULARY, read_vocabulary
from shards.schema import (
    SCHEMA_VERSION,
    Array,
    Caption,
    Classes,
    Manifest,
    ParserInfo,
    Regions,
    Sample,
    ShardInfo,
    TokenizerInfo,
    Totals,
)
from shards.writer import ShardWriter

TRAIN, VAL = "train", "val"
TEXT = "captions.arrow"


@dataclass(frozen=True)
class Rows:
    """A partition: a run of rows of one part of the regions, and each row's captions."""

    regions: Path
    start: int
    end: int
    captions: Array
    """int64 [end - start, 2]: rows of the sorted captions table; an empty range where the image has none"""
    held_out: Array
    """bool [end - start]"""


@dataclass(frozen=True)
class PackStage:
    """Joins captions and regions by image id and writes them as shards.

    Regions are streamed once. The text is sorted by image id into a memory-mapped table, where a worker finds the
    captions of an image. Each partition becomes one shard of ``train`` and, with ``holdout``, one of ``val``.
    """

    graphs: tuple[Path, ...]
    regions: tuple[Path, ...]
    tokenizer: Path
    out: Path
    holdout: float
    shard_size: int
    class_top_k: int | None
    name: str = "pack"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.executor.Stage`."""
        return {
            "graphs": [file_fingerprint(part) for folder in self.graphs for part in parts_of(folder)],
            "regions": [file_fingerprint(part) for folder in self.regions for part in parts_of(folder)],
            "tokenizer": hashlib.sha256(self.tokenizer.read_bytes()).hexdigest(),
            "holdout": self.holdout,
            "shard_size": self.shard_size,
            "class_top_k": self.class_top_k,
            "schema_version": SCHEMA_VERSION,
        }

    def total(self) -> int | None:
        """Not known before the join is planned."""
        return None

    def estimated_bytes(self) -> int:
        """See `pipeline.executor.Stage`."""
        folders = (*self.graphs, *self.regions)
        return sum(part.stat().st_size for folder in folders for part in parts_of(folder))

    # ------------------------------------------------------------------------------------------------ the two sides

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

    def write_text(self) -> Array:
        """Writes all captions, sorted by image id, as ``captions.arrow``; returns their image ids.

        Raises:
            InputError: two folders hold captions of the same image.
        """
        tables = []
        for number, folder in enumerate(self.graphs):
            table = pa.concat_tables(pq.read_table(part) for part in parts_of(folder))
            source = pa.array(np.full(len(table), number, np.int32))
            tables.append(table.replace_schema_metadata(None).append_column("folder", source))
        table = pa.concat_tables(tables).combine_chunks()
        table = table.sort_by([("image_id", "ascending"), ("folder", "ascending"), ("caption_id", "ascending")])
        ids: Array = table["image_id"].to_numpy()
        folders: Array = table["folder"].to_numpy()
        clash = np.flatnonzero((ids[1:] == ids[:-1]) & (folders[1:] != folders[:-1]))
        if len(clash):
            a, b = (self.graphs[folders[clash[0] + i]] for i in (0, 1))
            raise InputError(f"image {ids[clash[0]]!r} has captions in {a} and in {b}; give one of them")
        path = self.out / TEXT
        with path.open("wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=1 << 16)
        return ids

    def region_ids(self) -> list[tuple[Path, Array]]:
        """The image ids of every part of the regions.

        Raises:
            InputError: two folders hold the same image.
        """
        seen: dict[str, Path] = {}
        parts = []
        for folder in self.regions:
            for part in parts_of(folder):
                read_metadata(part, "regions_version", REGIONS_VERSION)
                ids = pq.read_table(part, columns=["image_id"])["image_id"].to_numpy()
                for image_id in ids:
                    if image_id in seen:
                        raise InputError(
                            f"image {image_id!r} has regions in {seen[image_id]} and in {part}; an image may have "
                            "regions once"
                        )
                    seen[image_id] = part
                parts.append((part, ids))
        return parts

    # ------------------------------------------------------------------------------------------------------- planning

    def partitions(self) -> Iterator[Rows]:
        """Runs of regions that hold ``shard_size`` images with captions."""
        text_ids = self.write_text()
        parts = self.region_ids()
        self._write_unmatched(text_ids, np.concatenate([ids for _, ids in parts]))
        for path, ids in parts:
            captions = np.stack([np.searchsorted(text_ids, ids, side) for side in ("left", "right")], axis=1)
            matched = captions[:, 1] > captions[:, 0]
            held_out = np.array([is_held_out(image_id, self.holdout) for image_id in ids], bool)
            counts = np.cumsum(matched)
            ends = [*np.searchsorted(counts, np.arange(self.shard_size, matched.sum(), self.shard_size)) + 1, len(ids)]
            start = 0
            for end in ends:
                yield Rows(path, start, end, captions[start:end], held_out[start:end])
                start = end

    def _write_unmatched(self, text_ids: Array, region_ids: Array) -> None:
        for name, ids in (
            ("images-without-regions", np.setdiff1d(text_ids, region_ids)),
            ("images-without-captions", np.setdiff1d(region_ids, text_ids)),
        ):
            write_atomic(self.out / f"{name}.txt", "".join(f"{image_id}\n" for image_id in ids).encode())

    # -------------------------------------------------------------------------------------------------------- packing

    def worker(self) -> Callable[[Rows, Part], None]:
        """Opens tokenizer and text; see `pipeline.executor.Stage`."""
        tokenizer = load_tokenizer(self.tokenizer)
        feature_size = self.info.feature_size

        def pack(rows: Rows, part: Part) -> None:
            with pa.memory_map(str(self.out / TEXT)) as source:
                text = pa.ipc.open_file(source).read_all()
            samples: dict[str, list[Sample]] = {TRAIN: [], VAL: []}
            for number, row in enumerate(_read_rows(rows, feature_size)):
                part.statistics["rows"] += 1
                first, last = rows.captions[number]
                if first == last:
                    part.statistics["images without captions"] += 1
                    continue
                captions = tuple(_to_caption(c) for c in text.slice(first, last - first).to_pylist())
                masks = make_masks(captions, tokenizer)
                regions = _keep_top(row.regions, self.class_top_k)
                sample = Sample(row.image_id, row.width, row.height, captions, regions, masks)
                samples[VAL if rows.held_out[number] else TRAIN].append(sample)
            for split, packed in samples.items():
                if packed:
                    _write_shard(part, split, packed)

        return pack

    # -------------------------------------------------------------------------------------------------------- merging

    def finish(self, out: Path, parts: int) -> None:
        """Merges the parts' indices and writes each split's vocabulary, index and, last, manifest."""
        for split in (TRAIN, VAL):
            shards = []
            for number in range(parts):
                path = out / _index_part(f"part-{number:05d}", split)
                if path.is_file():
                    shards.append(json.loads(path.read_bytes()))
            if shards:
                self._write_split(out / split, shards)
        (out / TEXT).unlink(missing_ok=True)
        if not any((out / split / MANIFEST).is_file() for split in (TRAIN, VAL)):
            raise InputError(
                "no image has both captions and regions: nothing to pack. Compare the image ids in "
                f"{out / 'images-without-regions.txt'} and {out / 'images-without-captions.txt'}"
            )

    def _write_split(self, folder: Path, shards: list[dict[str, Any]]) -> None:
        vocabulary = self.tokenizer.read_bytes()
        write_atomic(folder / VOCABULARY, vocabulary)
        sink = pa.BufferOutputStream()
        index.write(sink, [shard["rows"] for shard in shards])
        data = sink.getvalue().to_pybytes()
        write_atomic(folder / INDEX, data)
        classes = self.info.classes
        manifest = Manifest(
            tokenizer=TokenizerInfo(
                sha256=hashlib.sha256(vocabulary).hexdigest(), size=len(read_vocabulary(self.tokenizer))
            ),
            parser=self.parser,
            feature_size=self.info.feature_size,
            classes=_classes_of_shards(classes, self.class_top_k),
            totals=sum((Totals(**shard["totals"]) for shard in shards), Totals()),
            index_sha256=hashlib.sha256(data).hexdigest(),
            shards=[ShardInfo(**shard["info"]) for shard in shards],
        )
        write_atomic(folder / MANIFEST, manifest.to_bytes())


def is_held_out(image_id: str, share: float) -> bool:
    """Whether an image belongs to the held-out split: decided by a hash of its id alone."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _index_part(part: str, split: str) -> str:
    return f"parts/{part}.{split}.json"


def _write_shard(part: Part, split: str, samples: list[Sample]) -> None:
    file = f"shard-{part.number:05d}.tar"
    with part.open(f"{split}/{file}") as stream, ShardWriter(stream, file) as writer:
        for sample in samples:
            try:
                writer.write(sample)
            except ValueError as error:
                part.rejects.append(Reject("regions", sample.image_id, str(error)))
    with part.open(_index_part(part.name, split)) as stream:
        record = {"info": writer.info.model_dump(), "totals": writer.totals.model_dump(), "rows": writer.rows}
        stream.write(json.dumps(record, separators=(",", ":")).encode())
    part.statistics[f"{split} images"] += writer.totals.samples
    part.statistics[f"{split} captions"] += writer.totals.captions


def _read_rows(rows: Rows, feature_size: int) -> Iterator[RegionsRow]:
    """The rows ``start:end`` of a part; only the row groups that hold them are read."""
    file = pq.ParquetFile(rows.regions)
    first = 0
    for group in range(file.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows
        if first < rows.end and last > rows.start:
            table = file.read_row_group(group)
            low, high = max(rows.start, first) - first, min(rows.end, last) - first
            for row in table.slice(low, high - low).to_pylist():
                yield RegionsRow.from_dict(row, feature_size)
        first = last


def _to_caption(row: dict[str, Any]) -> Caption:
    return Caption(row["caption_id"], row["caption"], SceneGraph.from_dict(row["caption"], row))


def _keep_top(regions: Regions, k: int | None) -> Regions:
    if k is None or regions.class_ids is None or regions.class_probs is None:
        return regions
    return Regions(regions.boxes, regions.features, regions.class_ids[:, :k], regions.class_probs[:, :k])


def _classes_of_shards(classes: Classes, k: int | None) -> Classes:
    if k is None or classes.kind != "distribution" or (classes.count or 0) <= k:
        return classes
    return classes.model_copy(update={"kind": "top-k"})


app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m pipeline.pack --graphs data/graphs --regions data/regions "
    "--tokenizer vocab.txt --out data/shards --holdout 0.05"
)
def main(
    graphs: Annotated[list[Path], typer.Option(help="Folder of pipeline.parse; may be repeated.")],
    regions: Annotated[list[Path], typer.Option(help="Folder of pipeline.regions; may be repeated.")],
    tokenizer: Annotated[Path, typer.Option(help="vocab.txt: one word piece a line.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    holdout: Annotated[float, typer.Option(min=0, max=0.99, help="Share of images held out in val/.")] = 0.0,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in a shard.")] = 1_000,
    class_top_k: Annotated[
        int | None, typer.Option(min=1, help="Keep the k most likely classes of a region; default all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
    max_rejects: Annotated[float, typer.Option(min=0, max=1, help="Share of rejected rows that is too much.")] = 0.01,
    overwrite: Annotated[bool, typer.Option(help="Replace the output of a run with other settings.")] = False,
) -> None:
    """Join scene graphs and regions into WebDataset shards."""
    read_vocabulary(tokenizer)
    stage = PackStage(tuple(graphs), tuple(regions), tokenizer, out, holdout, shard_size, class_top_k)
    report = run_stage(stage, out, workers=workers, max_rejects=max_rejects, overwrite=overwrite)
    print_report("Shards", out, report)
    for name, meaning in (
        ("images-without-regions", "images have captions but no regions"),
        ("images-without-captions", "images have regions but no captions"),
    ):
        path = out / f"{name}.txt"
        ids = path.read_text(encoding="utf-8").split("\n")[:-1]
        if ids:
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            console.print(f"{len(ids):,} {meaning}: {some} (all in {path})")


if __name__ == "__main__":
    run(app)
