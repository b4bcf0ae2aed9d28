"""A partition of a pack, and how a worker makes it the shards of one part."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from parsers.graph import SceneGraph
from pipeline.execution.parts import Part, Reject
from pipeline.holdout import TRAIN, VAL
from pipeline.pack.accounts import Outcome
from pipeline.pack.false_captions import make_negative_masks, make_negatives
from pipeline.pack.join import Fate
from pipeline.pack.word_pieces import make_masks
from shards.index import IndexRow
from shards.manifest import ShardInfo, Totals
from shards.regions.table import RegionsRow, open_regions, read_rows
from shards.schema import Array, Caption, Regions, Sample
from shards.storage.files import AnyPath, seal, unseal
from shards.writer import ShardWriter

SPLIT_OF = {Fate.PACKED: TRAIN, Fate.HELD_OUT: VAL}
"""The split of the images that are packed."""
OUTCOME_OF = {TRAIN: Outcome.PACKED, VAL: Outcome.HELD_OUT}
"""What the accounts call the images of a split."""
PIECES, UNKNOWN = "word pieces", "word pieces of unknown words"
"""What the statistics call all word pieces, and those of words that the vocabulary does not have as a whole."""


@dataclass(frozen=True)
class PackPartition:
    """A run of rows of one part of the regions, with their captions, so that a worker needs no more."""

    regions: AnyPath
    """the part"""
    start: int
    end: int
    image_ids: list[str]
    fates: Array
    """uint8 [end - start], values of `pipeline.pack.join.Fate`"""
    caption_counts: Array
    """int64 [end - start]: how many of ``captions`` belong to each row"""
    captions: pa.Table
    """a table of `pipeline.graph_table.GRAPHS`, row by row of the regions"""
    negative_counts: Array | None = None
    """int64 [end - start]: how many of ``negatives`` belong to each row; None: there are none"""
    negatives: pa.Table | None = None
    """a table of `pipeline.negative_table.NEGATIVES`, row by row of the regions"""

    def negatives_of(self, number: int) -> list[dict[str, Any]]:
        """Returns the rows of the false captions of a row of the regions."""
        if self.negatives is None or self.negative_counts is None:
            return []
        first = int(self.negative_counts[:number].sum())
        rows: list[dict[str, Any]] = self.negatives.slice(first, int(self.negative_counts[number])).to_pylist()
        return rows


@dataclass(frozen=True)
class Packer:
    """Packs partitions: each becomes one shard of ``train`` and, if images are held out, one of ``val``."""

    tokenizer: Tokenizer
    feature_size: int
    class_top_k: int | None

    @cached_property
    def _unknown(self) -> Array:
        """bool [pieces of the vocabulary]: whether a piece belongs to a word that the vocabulary does not have."""
        pieces = self.tokenizer.get_vocab()
        unknown = np.zeros(1 + max(pieces.values()), bool)  # fewer pieces than lines if a vocabulary repeats one
        unknown[[number for piece, number in pieces.items() if piece.startswith("##") or piece == "[UNK]"]] = True
        return unknown

    def pack(self, partition: PackPartition, part: Part) -> None:
        """Writes the part; the images that cannot be packed are its rejects."""
        source = str(partition.regions)
        with contextlib.ExitStack() as stack:
            shards: dict[str, ShardWriter] = {}
            first = 0
            for number, row in enumerate(_read_rows(partition, self.feature_size)):
                part.statistics["rows"] += 1
                fate, image_id = Fate(partition.fates[number]), partition.image_ids[number]
                captions = partition.captions.slice(first, int(partition.caption_counts[number]))
                first += len(captions)
                if fate == Fate.REPEATED:
                    part.rejects.append(Reject(source, image_id, "the image has regions already"))
                if fate not in SPLIT_OF:
                    continue
                split = SPLIT_OF[fate]
                try:
                    sample = self._make_sample(image_id, row, captions, partition.negatives_of(number))
                    if split not in shards:  # only now: a shard without samples is none
                        shards[split] = stack.enter_context(_new_shard(part, split))
                    shards[split].write(sample)
                    part.statistics[PIECES] += len(sample.masks.token_ids)
                    part.statistics[UNKNOWN] += int(self._unknown[sample.masks.token_ids].sum())
                    outcome = OUTCOME_OF[split]
                except ValueError as error:
                    part.rejects.append(Reject(source, image_id, str(error)))
                    outcome = Outcome.REJECTED
                part.statistics[f"images {outcome}"] += 1
                part.statistics[f"captions {outcome}"] += len(captions)
                if partition.negative_counts is not None:
                    part.statistics[f"false captions {outcome}"] += int(partition.negative_counts[number])

    def _make_sample(
        self, image_id: str, row: RegionsRow | ValueError, captions: pa.Table, false: Sequence[dict[str, Any]]
    ) -> Sample:
        """Makes the sample of an image.

        Raises:
            ValueError: the regions are not valid, or a false caption is of a caption that the image does not have.
        """
        if isinstance(row, ValueError):
            raise row
        row.regions.check(row.width, row.height)
        records = captions.to_pylist()
        parsed = tuple(Caption(r["caption_id"], r["caption"], SceneGraph.from_dict(r["caption"], r)) for r in records)
        masks = make_masks(parsed, self.tokenizer, [r["segments"] or () for r in records])
        regions = _keep_top(row.regions, self.class_top_k)
        negatives = make_negatives(parsed, false)
        negative_masks = make_negative_masks(negatives, self.tokenizer) if negatives else None
        return Sample(image_id, row.width, row.height, parsed, regions, masks, negatives, negative_masks)


def _read_rows(partition: PackPartition, feature_size: int) -> Iterator[RegionsRow | ValueError]:
    """Reads the rows of a partition; only the row groups that hold them are decoded."""
    file = open_regions(partition.regions)
    first = 0
    for group in range(file.num_row_groups):
        last = first + file.metadata.row_group(group).num_rows
        if first < partition.end and last > partition.start:
            low, high = max(partition.start, first) - first, min(partition.end, last) - first
            yield from read_rows(file.read_row_group(group, use_threads=False).slice(low, high - low), feature_size)
        first = last


def _keep_top(regions: Regions, k: int | None) -> Regions:
    """Returns the regions with the k most likely classes of each."""
    if k is None or regions.class_ids is None or regions.class_probs is None:
        return regions
    return Regions(regions.boxes, regions.features, regions.class_ids[:, :k], regions.class_probs[:, :k])


# ------------------------------------------------------------------------------------------- a shard and its index rows


@dataclass(frozen=True)
class ShardOfPart:
    """What the manifest and the index of a split say of the shard of one part."""

    info: ShardInfo
    totals: Totals
    rows: list[IndexRow]


def _path_of_index_rows(part: int, split: str) -> str:
    return f"parts/part-{part:05d}.{split}.json"


@contextlib.contextmanager
def _new_shard(part: Part, split: str) -> Iterator[ShardWriter]:
    """Opens the shard of a part; when it is closed, the rows of its index are written beside it."""
    file = f"shard-{part.number:05d}.tar"
    with part.open(f"{split}/{file}") as stream, ShardWriter(stream, file) as writer:
        yield writer
    with part.open(_path_of_index_rows(part.number, split)) as stream:
        record = {
            "info": writer.info.model_dump(),
            "totals": writer.totals.model_dump(),
            "rows": list(map(asdict, writer.rows)),
        }
        stream.write(seal(json.dumps(record, separators=(",", ":")).encode()))


def parts_with_shard(out: AnyPath, parts: int, split: str) -> list[int]:
    """Returns the numbers of those of the first ``parts`` parts that have a shard of the split."""
    return [number for number in range(parts) if (out / _path_of_index_rows(number, split)).is_file()]


def read_shard_of_part(out: AnyPath, part: int, split: str) -> ShardOfPart:
    """Reads what a worker left beside the shard of a part."""
    path = out / _path_of_index_rows(part, split)
    record = json.loads(unseal(path.read_bytes(), path))
    return ShardOfPart(
        ShardInfo(**record["info"]), Totals(**record["totals"]), [IndexRow(**row) for row in record["rows"]]
    )
