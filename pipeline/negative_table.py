"""The table of false captions, one row for each, which `pipeline.negatives` writes as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from parsers.command import InputError
from parsers.graph import SceneGraph
from pipeline.graph_table import GRAPHS, NODE_COLUMNS, SPANS, tabulate_nodes
from shards.negatives.table import NEGATIVE_TEXTS, NEGATIVES_KEY, NEGATIVES_VERSION
from shards.stage_folder import find_null, open_part
from shards.storage.files import AnyPath
from shards.storage.parquet import write_table

_GRAPH = pa.struct([GRAPHS.field(name) for name in NODE_COLUMNS])
NEGATIVES = pa.schema(
    [
        *NEGATIVE_TEXTS,
        pa.field("negative_id", pa.string(), nullable=False),
        pa.field("spans", SPANS, nullable=False),
        pa.field("graph", _GRAPH, nullable=False),
    ]
)
"""The columns: those of `shards.negatives.table`, a name for the false caption, its changed words, and its graph."""


def tabulate_graphs(graphs: Sequence[SceneGraph]) -> pa.Array:
    """Returns the column ``graph``."""
    columns = tabulate_nodes(graphs)
    return pa.StructArray.from_arrays([columns[name] for name in NODE_COLUMNS], fields=list(_GRAPH))


def write_negatives(stream: BinaryIO, table: pa.Table) -> None:
    """Writes a part of the table."""
    write_table(stream, table, {NEGATIVES_KEY: NEGATIVES_VERSION}, group_rows=4096, group_bytes=1 << 24)


def read_negatives(path: AnyPath, rows: int) -> Iterator[pa.RecordBatch]:
    """Yields a part of a folder of false captions in batches of at most ``rows`` rows as `NEGATIVES` has them.

    Raises:
        InputError: this is no such part, or a value is null where the stage writes none.
    """
    file = open_part(path, NEGATIVES_KEY, {NEGATIVES_VERSION: NEGATIVES})
    for batch in file.iter_batches(rows, columns=NEGATIVES.names):
        if (column := find_null(batch, NEGATIVES)) is not None:
            raise InputError(f"{path}: a null among the values of {column}; run its stage again")
        yield batch
