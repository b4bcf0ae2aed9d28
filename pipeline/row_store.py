"""The rows of folders of a stage in one memory-mapped file, to be looked up by image: captions, or false captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from pipeline.ids import refuse_shared_images
from shards.schema import Array
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath

BATCH = 1 << 14
"""rows of a batch of the Arrow file"""


class RowStore:
    """The rows of all folders.

    The tables are written once to an Arrow file, in the order in which they come. Memory holds the image ids and, for
    each image, the numbers of its rows.

    Say the rows belong to the images b, a, b. Then ``image_ids`` is [b, a] and ``counts`` is [2, 1]; the row numbers,
    sorted by image, are [0, 2, 1], and the rows of image i are the ``counts[i]`` numbers that end before [2, 3][i].
    """

    def __init__(
        self,
        what: str,
        folders: Sequence[AnyPath],
        read: Callable[[AnyPath, int], Iterator[pa.RecordBatch]],
        schema: pa.Schema,
        path: Path,
        rename: Callable[[str], str] | None = None,
    ) -> None:
        """Reads the rows of ``folders`` and writes them to ``path``, which must stay as long as the store is used.

        Args:
            what: what the rows hold, for messages.
            folders: folders that a stage wrote.
            read: reads a part in batches of at most so many rows.
            schema: the columns, of which ``image_id`` is one. Those that a batch lacks are null.
            path: the file to write.
            rename: returns the id of an image in the shards; None: that of the rows.

        Raises:
            InputError: two folders hold rows of the same image.
        """
        self._schema = schema
        folder_rows, ids = [], []
        with path.open("wb") as stream, pa.ipc.new_file(stream, schema) as writer:
            for folder in folders:
                rows = 0
                for part in parts_of(folder):
                    for batch in read(part, BATCH):
                        writer.write_batch(_with_all_columns(batch, schema))
                        column = batch["image_id"].cast(pa.large_string())
                        if rename is not None:
                            column = pa.array(map(rename, column.to_pylist()), pa.large_string())
                        ids.append(column)
                        rows += len(batch)
                folder_rows.append(rows)
        self._starts = np.cumsum([0, *(len(column) for column in ids)])
        encoded = pa.chunked_array(ids, pa.large_string()).combine_chunks().dictionary_encode()
        self.image_ids: pa.LargeStringArray = encoded.dictionary
        """each image that has rows, once"""
        images = encoded.indices.to_numpy()
        self._order = np.argsort(images, kind="stable").astype(np.int64)
        self._ends = np.cumsum(np.bincount(images, minlength=len(self.image_ids)))
        self._path = path
        row_folders = np.repeat(np.arange(len(folders)), folder_rows)
        refuse_shared_images(what, folders, row_folders, images, self.image_ids)

    def __len__(self) -> int:
        return len(self._order)

    @cached_property
    def counts(self) -> Array:
        """int64 [images]: the number of rows of each image."""
        return np.diff(self._ends, prepend=0)

    def take(self, images: Array) -> pa.Table:
        """Returns the rows of some images, image by image; those of an image are in the order in which they came.

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
        table = pa.Table.from_batches(taken, self._schema)
        return table.take(pa.array(np.argsort(np.concatenate([np.zeros(0, np.int64), *places])))).combine_chunks()

    @cached_property
    def _file(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._path)))


def _with_all_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Adds the columns that tables of earlier releases lack."""
    columns = [
        batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
