"""The table of graphs: what is written is read again, and tables of earlier releases are read as well."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.command import InputError
from parsers.graph import SceneGraph
from pipeline.graph_table import GRAPHS, GRAPHS_VERSION, NODE_COLUMNS, read_graphs, tabulate_nodes, write_graphs
from pipeline.row_store import RowStore
from shards.storage.parquet import write_table
from tests.parsers.graphs import any_graphs, gold_graphs

SPAN = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
NODE = [pa.field("lemma", pa.string()), *SPAN]
OBJECT = pa.field("object", pa.int32())
RELATION = [pa.field("subject", pa.int32()), OBJECT, pa.field("lemma", pa.string()), pa.field("spans", pa.list_(SPAN))]
VERSION_1 = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("caption_id", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("segments", pa.list_(pa.int32())),
        pa.field("objects", pa.list_(pa.struct(NODE)), nullable=False),
        pa.field("attributes", pa.list_(pa.struct([OBJECT, *NODE])), nullable=False),
        pa.field("relations", pa.list_(pa.struct(RELATION)), nullable=False),
    ]
)
"""The columns of releases whose graphs had neither mentions nor scores."""


def write(path, graphs):
    columns = {
        "image_id": [str(number) for number in range(len(graphs))],
        "caption_id": [None] * len(graphs),
        "caption": [graph.caption for graph in graphs],
        "segments": [None] * len(graphs),
        **tabulate_nodes(graphs),
    }
    stream = io.BytesIO()
    write_graphs(stream, pa.table(columns, GRAPHS), {"graphs_version": GRAPHS_VERSION})
    path.write_bytes(stream.getvalue())
    return path


def write_version_1(path, graphs, version="1"):
    rows = [
        {"image_id": f"version 1, {number}", "caption": graph.caption, **graph.to_dict()}
        for number, graph in enumerate(graphs)
    ]
    stream = io.BytesIO()
    table = pa.Table.from_pylist(rows, VERSION_1)
    write_table(stream, table, {"graphs_version": version}, group_rows=4096, group_bytes=1 << 24)
    path.write_bytes(stream.getvalue())
    return path


def read(path, rows=3):
    return [SceneGraph.from_dict(row["caption"], row) for batch in read_graphs(path, rows) for row in batch.to_pylist()]


@given(st.lists(any_graphs(), max_size=5))
def test_graphs_come_back(tmp_path_factory, graphs):
    assert read(write(tmp_path_factory.mktemp("t") / "part.parquet", graphs)) == graphs


def test_graphs_of_paragraphs_come_back(tmp_path):
    graphs = gold_graphs()
    assert read(write(tmp_path / "part.parquet", graphs), 16) == graphs


@given(st.lists(any_graphs(), max_size=5))
def test_tables_of_version_1_have_one_mention_of_each_object(tmp_path_factory, graphs):
    path = write_version_1(tmp_path_factory.mktemp("t") / "part.parquet", graphs)
    expected = [
        {
            kind: [{k: v for k, v in node.items() if k not in ("mentions", "visible")} for node in nodes]
            for kind, nodes in graph.to_dict().items()
        }
        for graph in graphs
    ]
    assert [graph.to_dict() for graph in read(path)] == expected
    for batch in read_graphs(path, 3):
        assert batch.schema.equals(GRAPHS)
    for batch in read_graphs(path, 3, ["caption", *NODE_COLUMNS]):
        assert batch.schema.names == ["caption", *NODE_COLUMNS]


def test_pack_joins_tables_of_both_versions(tmp_path):
    """What `pipeline.parse` wrote before graphs had mentions goes on being packed."""
    graphs = gold_graphs()[:6]
    (tmp_path / "graphs").mkdir()
    write_version_1(tmp_path / "graphs" / "part-00000.parquet", graphs[:3])
    write(tmp_path / "graphs" / "part-00001.parquet", graphs[3:])
    (tmp_path / "graphs" / "report.json").write_text("{}")
    store = RowStore("captions", [tmp_path / "graphs"], read_graphs, GRAPHS, tmp_path / "captions.arrow")
    rows = store.take(np.arange(len(store.image_ids))).to_pylist()
    found = {row["caption"]: SceneGraph.from_dict(row["caption"], row) for row in rows}
    assert len(found) == 6
    for number, graph in enumerate(graphs):
        first = [replace(item, mentions=()) for item in graph.objects] if number < 3 else graph.objects
        assert found[graph.caption] == replace(graph, objects=tuple(first))


def test_a_version_has_its_own_columns(tmp_path):
    path = write_version_1(tmp_path / "part.parquet", gold_graphs()[:1], version="2")
    with pytest.raises(InputError, match=r"part\.parquet: the column objects is .*; run its stage again"):
        read(path)
    path = write_version_1(tmp_path / "part.parquet", gold_graphs()[:1], version="3")
    with pytest.raises(InputError, match="graphs_version is 3, this release reads 1 and 2"):
        read(path)
