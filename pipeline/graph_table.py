"""The table of captions and their graphs, one row for each caption, which `pipeline.parse` writes as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import BinaryIO

import pyarrow as pa

from parsers.command import InputError
from parsers.graph import SceneGraph, Span
from shards.stage_folder import find_null, open_part
from shards.storage.files import AnyPath
from shards.storage.parquet import ParquetFile, write_table

GRAPHS_VERSION = "2"
OF_SPLIT = "captions of the split "
"""The statistics call the captions of a split this, and its name."""
_span = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
SPANS = pa.list_(_span)
_node = [pa.field("lemma", pa.string()), *_span]
_index = pa.field("object", pa.int32())
_relation = [
    pa.field("subject", pa.int32()),
    _index,
    pa.field("lemma", pa.string()),
    pa.field("spans", pa.list_(_span)),
]
_mentions, _visible = pa.field("mentions", SPANS), pa.field("visible", pa.float32())
NODE_COLUMNS = ("objects", "attributes", "relations")
"""The columns that hold the nodes of a graph."""


def _make_schema(*nodes: list[pa.Field]) -> pa.Schema:
    """Returns the columns of a table whose nodes, by `NODE_COLUMNS`, have these fields."""
    return pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("caption_id", pa.string()),
            pa.field("caption", pa.string(), nullable=False),
            pa.field("segments", pa.list_(pa.int32())),
            *(
                pa.field(kind, pa.list_(pa.struct(fields)), nullable=False)
                for kind, fields in zip(NODE_COLUMNS, nodes, strict=True)
            ),
        ]
    )


GRAPHS = _make_schema([*_node, _mentions, _visible], [_index, *_node, _visible], [*_relation, _visible])
GRAPHS_BY_VERSION = {"1": _make_schema(_node, [_index, *_node], _relation), GRAPHS_VERSION: GRAPHS}
"""The columns of each version that is read. In version 1, nodes have neither mentions nor scores."""
_DEFAULTS: dict[str, object] = {"mentions": [], "visible": 1.0}


# ------------------------------------------------------------------------------------------------------------- writing


def write_graphs(stream: BinaryIO, table: pa.Table, metadata: dict[str, str]) -> None:
    """Writes a part of the table with the metadata of its stage."""
    write_table(stream, table, metadata, group_rows=4096, group_bytes=1 << 24)


def tabulate_nodes(graphs: Sequence[SceneGraph]) -> dict[str, pa.Array]:
    """Returns the columns `NODE_COLUMNS` with a row for each graph."""
    # Whole fields become arrays, because making arrays of a tuple or a dict for each node takes twice as long.
    objects = [item for graph in graphs for item in graph.objects]
    attributes = [attribute for graph in graphs for attribute in graph.attributes]
    relations = [relation for graph in graphs for relation in graph.relations]
    fields = {
        "objects": [
            [item.lemma for item in objects],
            [item.span.start for item in objects],
            [item.span.end for item in objects],
            tabulate_spans([item.mentions for item in objects]),
            [item.visible for item in objects],
        ],
        "attributes": [
            [attribute.object for attribute in attributes],
            [attribute.lemma for attribute in attributes],
            [attribute.span.start for attribute in attributes],
            [attribute.span.end for attribute in attributes],
            [attribute.visible for attribute in attributes],
        ],
        "relations": [
            [relation.subject for relation in relations],
            [relation.object for relation in relations],
            [relation.lemma for relation in relations],
            tabulate_spans([relation.spans for relation in relations]),
            [relation.visible for relation in relations],
        ],
    }
    return {
        kind: _to_lists([len(getattr(graph, kind)) for graph in graphs], fields[kind], GRAPHS.field(kind).type)
        for kind in NODE_COLUMNS
    }


def tabulate_spans(rows: Sequence[Sequence[Span]]) -> pa.Array:
    """Returns a column of lists of spans."""
    spans = list(chain.from_iterable(rows))
    return _to_lists(map(len, rows), [[span.start for span in spans], [span.end for span in spans]], SPANS)


def _to_lists(lengths: Iterable[int], fields: Sequence[Sequence[object] | pa.Array], type: pa.ListType) -> pa.Array:
    """Returns lists of structs of these lengths, whose fields are given one after the other."""
    structs = type.value_type
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, field.type)
        for values, field in zip(fields, structs, strict=True)
    ]
    nodes = pa.StructArray.from_arrays(arrays, fields=list(structs))
    return pa.ListArray.from_arrays(pa.array(accumulate(lengths, initial=0), pa.int32()), nodes, type)


# ------------------------------------------------------------------------------------------------------------- reading


def open_graphs(path: AnyPath) -> ParquetFile:
    """Opens a part of a graphs folder.

    Raises:
        InputError: this is no such part, or it has other columns than its version says.
    """
    return open_part(path, "graphs_version", GRAPHS_BY_VERSION)


def read_graphs(path: AnyPath, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yields a part of a graphs folder, of any version, in batches of at most ``rows`` rows as `GRAPHS` has them.

    Args:
        path: the part.
        rows: the rows of a batch.
        columns: the columns to read; None: all.

    Raises:
        InputError: see `open_graphs`; or a value is null where no stage writes one.
    """
    file = open_graphs(path)
    columns = [name for name in columns or GRAPHS.names if name in file.schema_arrow.names]
    for batch in file.iter_batches(rows, columns=columns):
        if (column := find_null(batch, GRAPHS)) is not None:
            raise InputError(f"{path}: a null among the values of {column}; run its stage again")
        yield _with_all_fields(batch)


def _with_all_fields(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Gives the nodes of earlier versions the fields that they lack, with their defaults."""
    for place, name in enumerate(batch.schema.names):
        field, column = GRAPHS.field(name), batch[name]
        if column.type != field.type:
            nodes = column.flatten()
            present = dict(zip((f.name for f in nodes.type), nodes.flatten(), strict=True))
            values = [
                present[f.name] if f.name in present else [_DEFAULTS[f.name]] * len(nodes)
                for f in field.type.value_type
            ]
            batch = batch.set_column(place, field, _to_lists(column.value_lengths().to_pylist(), values, field.type))
    return batch
