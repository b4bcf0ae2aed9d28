"""Finds which captions and pictures that were packed nearly repeat each other, above all across the two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.duplicates.captions import hash_texts
from pipeline.duplicates.corpus import DUPLICATES, Corpus, count_groups, write_findings
from pipeline.duplicates.pictures import read_hashes
from pipeline.graph_table import read_graphs
from pipeline.holdout import TRAIN, VAL
from shards.schema import Array
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath

_BATCH = 1 << 16
Rename = Callable[[str], str] | None
"""returns what the shards call an image; None: they call it the same"""


@dataclass(frozen=True)
class PackedRows:
    """The rows of captions and pictures whose images were packed, with their split."""

    graphs: Sequence[AnyPath]
    regions: Sequence[AnyPath]
    rename_captions: Rename
    rename_regions: Rename
    packed: Mapping[str, Array]
    """uint64, ascending: for each split the images in it, as `hash_texts` numbers them"""

    def captions(self) -> Iterator[pa.RecordBatch]:
        """Yields the captions."""
        for folder in self.graphs:
            for part in parts_of(folder):
                for batch in read_graphs(part, _BATCH, ["image_id", "caption_id", "caption"]):
                    yield self._choose(batch, self.rename_captions)

    def pictures(self) -> Iterator[pa.RecordBatch]:
        """Yields the hashes of the pictures, as far as `pipeline.extract` saw them."""
        for folder in self.regions:
            for batch in read_hashes(folder):
                yield self._choose(batch, self.rename_regions)

    def _choose(self, batch: pa.RecordBatch, rename: Rename) -> pa.RecordBatch:
        """Returns the rows whose images were packed."""
        ids = batch["image_id"] if rename is None else pa.array(map(rename, batch["image_id"].to_pylist()), pa.string())
        images = hash_texts(ids)
        splits = np.full(len(batch), None, object)
        for split, packed in self.packed.items():
            places = np.searchsorted(packed, images)
            splits[np.append(packed, np.uint64(0))[places] == images] = split
        batch = batch.set_column(batch.schema.get_field_index("image_id"), "image_id", ids)
        batch = batch.append_column("split", pa.array(splits, pa.string()))
        return batch.filter(batch["split"].is_valid())


def report_repetitions(rows: PackedRows, out: AnyPath) -> Counter[str]:
    """Writes the groups of what nearly repeats and returns their counts."""
    table = pa.concat_tables(
        [
            Corpus.read("captions", rows.captions).tabulate_groups(),
            Corpus.read("pictures", rows.pictures).tabulate_groups(),
        ]
    )
    write_findings(table, out / DUPLICATES)
    return count_groups(table) + _count_leaks(table)


def _count_leaks(table: pa.Table) -> Counter[str]:
    """Counts the rows of the held-out split that stand in a group with rows of the other."""
    counts: Counter[str] = Counter()
    for kind in ("captions", "pictures"):
        rows = table.filter(pc.equal(table["kind"], kind))
        trained = rows.filter(pc.equal(rows["split"], TRAIN))["group"]
        held_out = rows.filter(pc.equal(rows["split"], VAL))["group"]
        counts[f"{kind} held out that nearly repeat some of {TRAIN}/"] = pc.sum(
            pc.is_in(held_out, value_set=trained), min_count=0
        ).as_py()
    return +counts
