"""All captions with their graphs, in one memory-mapped file, to be looked up by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from pipeline.graph_table import GRAPHS, read_graphs
from pipeline.pack.image_ids import refuse_shared_images
from shards.schema import Array
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath

BATCH = 1 << 14
"""rows of a batch of the Arrow file"""


class CaptionStore:
    """The captions of all graphs folders.

    The tables are written once to an Arrow file, in the order in which they come. Memory holds the image ids and, for
    each image, the row numbers of its captions.

    Say the rows belong to the images b, a, b. Then ``image_ids`` is [b, a] and ``counts`` is [2, 1]; the row numbers,
    sorted by image, are [0, 2, 1], and the rows of image i are the ``counts[i]`` numbers that end before [2, 3][i].
    """

    def __init__(self, folders: Sequence[AnyPath], path: Path, rename: Callable[[str], str] | None = None) -> None:
        """Reads the graphs of ``folders`` and writes them to ``path``, which must stay as long as the store is used.

        Args:
            folders: folders that `pipeline.parse` wrote.
            path: the file to write.
            rename: returns the id of an image in the shards; None: that of the captions.

        Raises:
            InputError: two folders hold captions of the same image.
        """
        folder_rows, ids = [], []
        with path.open("wb") as stream, pa.ipc.new_file(stream, GRAPHS) as writer:
            for folder in folders:
                rows = 0
                for part in parts_of(folder):
                    for batch in read_graphs(part, BATCH):
                        writer.write_batch(_with_all_columns(batch))
                        column = batch["image_id"].cast(pa.large_string())
                        if rename is not None:
                            column = pa.array(map(rename, column.to_pylist()), pa.large_string())
                        ids.append(column)
                        rows += len(batch)
                folder_rows.append(rows)
        self._starts = np.cumsum([0, *(len(column) for column in ids)])
        encoded = pa.chunked_array(ids, pa.large_string()).combine_chunks().dictionary_encode()
        self.image_ids: pa.LargeStringArray = encoded.dictionary
        """each image that has captions, once"""
        images = encoded.indices.to_numpy()
        self._order = np.argsort(images, kind="stable").astype(np.int64)
        self._ends = np.cumsum(np.bincount(images, minlength=len(self.image_ids)))
        self._path = path
        row_folders = np.repeat(np.arange(len(folders)), folder_rows)
        refuse_shared_images("captions", folders, row_folders, images, self.image_ids)

    def __len__(self) -> int:
        return len(self._order)

    @cached_property
    def counts(self) -> Array:
        """int64 [images]: the number of captions of each image."""
        return np.diff(self._ends, prepend=0)

    def take(self, images: Array) -> pa.Table:
        """Returns the captions of some images, image by image; those of an image are in the order in which they came.

        Args:
            images: int64 [n], numbers in ``image_ids``.
        """
        ranges = [
            self._order[end - count : end] for end, count in zip(self._ends[images], self.counts[images], strict=True)
        ]
        rows = np.concatenate([np.zeros(0, np.int64), *ranges])
        batches = np.searchsorted(self._starts, rows, "right") - 1
        taken, places = [], []
        for batch in np.unique(batches):
            here = np.flatnonzero(batches == batch)
            taken.append(self._file.get_batch(int(batch)).take(pa.array(rows[here] - self._starts[batch])))
            places.append(here)
        table = pa.Table.from_batches(taken, GRAPHS)
        return table.take(pa.array(np.argsort(np.concatenate([np.zeros(0, np.int64), *places])))).combine_chunks()

    @cached_property
    def _file(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._path)))


def _with_all_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds the column of segments, which tables of earlier releases lack."""
    columns = [
        batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type) for field in GRAPHS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=GRAPHS)
