"""What nearly repeats in a corpus, and what it shares with a benchmark, as tables."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.duplicates.captions import CaptionIndex, hash_texts
from pipeline.duplicates.pictures import PictureIndex
from pipeline.duplicates.search import Index, find_groups, find_matches
from shards.schema import Array
from shards.storage.files import AnyPath, write_atomic
from shards.storage.parquet import write_table

Kind = Literal["captions", "pictures"]
Rows = Callable[[], Iterable[pa.RecordBatch]]
"""Yields the rows of a corpus, the same in every call. Captions have the columns ``image_id``, ``caption_id`` and
``caption``, pictures ``image_id`` and ``hash``. Both may have ``split``."""
_INDICES: dict[Kind, tuple[str, Callable[[Iterable[pa.Array]], Index]]] = {
    "captions": ("caption", CaptionIndex),
    "pictures": ("hash", PictureIndex),
}
_OF_ROW = [
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("caption_id", pa.string()),
    pa.field("caption", pa.string()),
    pa.field("split", pa.string()),
]
_KIND = pa.field("kind", pa.string(), nullable=False)
DUPLICATES = "near-duplicates.parquet"
GROUPS = pa.schema([_KIND, pa.field("group", pa.int64(), nullable=False), *_OF_ROW])
"""The columns of `DUPLICATES`. A group has captions, or pictures, of at least two images; its rows stand together."""
CONTAMINATION = "contamination.parquet"
MATCHES = pa.schema(
    [
        _KIND,
        *_OF_ROW[:-1],
        pa.field("benchmark_image_id", pa.string(), nullable=False),
        pa.field("benchmark_caption", pa.string()),
        pa.field("similarity", pa.float32(), nullable=False),
    ]
)
"""The columns of `CONTAMINATION`: each caption or picture of the corpus that is alike to one of the benchmark, with the
one that is most alike."""


@dataclass(frozen=True)
class Corpus:
    """The captions or the pictures of a corpus, or of a benchmark."""

    kind: Kind
    rows: Rows
    index: Index
    images: Array
    """uint64 [rows]: a number for the image of each row"""

    @classmethod
    def read(cls, kind: Kind, rows: Rows) -> Corpus:
        """Reads all rows once."""
        column, build = _INDICES[kind]
        images = [np.zeros(0, np.uint64)]

        def values() -> Iterator[pa.Array]:
            for batch in rows():
                images.append(hash_texts(batch["image_id"]))
                yield batch[column]

        index = build(values())
        return cls(kind, rows, index, np.concatenate(images))

    def tabulate_groups(self) -> pa.Table:
        """Returns what nearly repeats a caption, or a picture, of another image: a table of `GROUPS`.

        An image's own captions may resemble each other, so groups of a single image are left out.
        """
        labels = self._spread(find_groups(self.index))
        order = np.lexsort((self.images, labels))
        label, image = labels[order], self.images[order]
        new = np.append(True, (label[1:] != label[:-1]) | (image[1:] != image[:-1]))[: len(label)]
        images_of = np.bincount(label[new] + 1)  # label -1 comes first
        chosen = (labels >= 0) & (images_of[labels + 1] > 1)
        _, first, numbers = np.unique(labels[chosen], return_index=True, return_inverse=True)
        groups = np.argsort(np.argsort(first))[numbers]  # numbered in the order in which they begin
        order = np.argsort(groups, kind="stable")
        table = self._take(chosen).append_column("group", pa.array(groups))
        return _conform(table.take(pa.array(order)), self.kind, GROUPS)

    def tabulate_matches(self, benchmark: Corpus) -> pa.Table:
        """Returns what is alike to a caption, or a picture, of a benchmark: a table of `MATCHES`."""
        ours, theirs, similarity = find_matches(self.index, benchmark.index)
        best = np.lexsort((theirs, -similarity, ours))
        ours, first = np.unique(ours[best], return_index=True)
        match = np.full(len(self.index), -1)
        match[ours] = best[first]
        matches = self._spread(match)
        chosen = matches >= 0
        entries, examples = np.unique(benchmark.index.entries, return_index=True)
        rows = examples[np.searchsorted(entries, theirs[matches[chosen]])]
        of_benchmark = benchmark._take(np.ones(len(benchmark.images), bool)).take(pa.array(rows))
        table = self._take(chosen).append_column("similarity", pa.array(similarity[matches[chosen]]))
        for name in set(of_benchmark.column_names) & {"image_id", "caption"}:
            table = table.append_column(f"benchmark_{name}", of_benchmark[name])
        return _conform(table, self.kind, MATCHES)

    def _spread(self, values: Array) -> Array:
        """int64 [rows]: the value of each row's entry, -1 for a row without one."""
        return np.append(values, -1)[self.index.entries]

    def _take(self, chosen: Array) -> pa.Table:
        """Returns the chosen rows."""
        start, found = 0, []
        for batch in self.rows():
            found.append(batch.filter(pa.array(chosen[start : start + len(batch)])))
            start += len(batch)
        return pa.Table.from_batches(found) if found else pa.table({"image_id": pa.array([], pa.string())})


def _conform(table: pa.Table, kind: Kind, schema: pa.Schema) -> pa.Table:
    """Returns a table with the columns of a schema; those that it lacks are null."""
    table = table.append_column("kind", pa.array([kind] * len(table), pa.string()))
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema)


def count_groups(table: pa.Table) -> Counter[str]:
    """Counts the rows and groups of each kind in a table of `GROUPS`."""
    counts: Counter[str] = Counter()
    for kind in pc.unique(table["kind"]).to_pylist():
        rows = table.filter(pc.equal(table["kind"], kind))
        counts[f"{kind} that nearly repeat others"] = len(rows)
        counts[f"groups of such {kind}"] = len(pc.unique(rows["group"]))
    return counts


def write_findings(table: pa.Table, path: AnyPath) -> None:
    """Writes a table of `GROUPS` or `MATCHES`. The file appears whole or not at all."""
    data = io.BytesIO()
    write_table(data, table, {"duplicates_version": "1"}, group_rows=1 << 16, group_bytes=1 << 24)
    write_atomic(path, data.getvalue())
