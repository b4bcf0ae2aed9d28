"""The stage that counts the labels of objects, attributes and relations."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from parsers.command import pluralize
from pipeline.execution.engines import Work
from pipeline.execution.parts import Part
from pipeline.files import fingerprint
from pipeline.graph_table import GRAPHS_VERSION, NODE_COLUMNS, read_graphs
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath, write_atomic
from shards.storage.parquet import parquet_file, write_table

COUNTS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("lemma", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
"""The schema of a table with one row for each label of each kind of node.

The rows of a kind stand together. The kinds are in the order of `NODE_COLUMNS`, and the labels of a kind begin with the
most frequent one. Labels with equal counts are in the order of their characters.
"""
NODES, PICTURE = "nodes.parquet", "nodes.png"
COLOURS = {"objects": "#0891b2", "attributes": "#16a34a", "relations": "#c026d3"}
BATCH = 1 << 16
"""rows that are counted at a time"""
SHOWN = 20
"""how many labels of each kind the picture shows"""


@dataclass(frozen=True)
class StatisticsStage:
    """Counts the nodes of graphs. Each part of the graphs becomes a part of counts, and all are added up at the end."""

    graphs: tuple[AnyPath, ...]
    """folders of `pipeline.parse`"""
    name: str = "statistics"

    def inputs(self) -> tuple[AnyPath, ...]:
        """See `pipeline.execution.executor.Stage`."""
        return self.graphs

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {"graphs": [fingerprint(part) for part in self.partitions()], "graphs_version": GRAPHS_VERSION}

    def partitions(self) -> Iterator[AnyPath]:
        """Yields the parts of the graphs."""
        for folder in self.graphs:
            yield from parts_of(folder)

    def total(self) -> int | None:
        """See `pipeline.execution.executor.Stage`."""
        return sum(1 for _ in self.partitions())

    def estimated_bytes(self) -> int:
        """Returns the size of the graphs, which is more than the counts take."""
        return sum(part.stat().st_size for part in self.partitions())

    def worker(self) -> Work[AnyPath]:
        """See `pipeline.execution.executor.Stage`."""
        return _count

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Adds the counts up and draws them."""
        tables = [parquet_file(out / f"part-{number:05d}.parquet").read() for number in range(parts)]
        summed = pa.concat_tables(tables).group_by(["kind", "lemma"]).aggregate([("count", "sum")])
        counts = Counter({(row["kind"], row["lemma"]): row["count_sum"] for row in summed.to_pylist()})
        table = _to_table(counts)
        _publish(out / NODES, lambda stream: pq.write_table(table, stream, compression="zstd"))
        _publish(out / PICTURE, lambda stream: _draw(table, statistics, stream))


def _count(source: AnyPath, part: Part) -> None:
    """Counts the labels of a part of the graphs. An object counts once, however often its caption mentions it."""
    counts: Counter[tuple[str, str]] = Counter()
    for batch in read_graphs(source, BATCH, ["caption", *NODE_COLUMNS]):
        part.statistics["rows"] += len(batch)
        part.statistics["words"] += pc.sum(pc.list_value_length(pc.utf8_split_whitespace(batch["caption"]))).as_py()
        for kind in NODE_COLUMNS:
            lengths = batch[kind].value_lengths().to_numpy(zero_copy_only=False)
            part.statistics[kind] += int(lengths.sum())
            part.statistics[f"captions with {kind}"] += int((lengths > 0).sum())
            for entry in batch[kind].flatten().field("lemma").value_counts().to_pylist():
                counts[kind, entry["values"]] += entry["counts"]
        if mentions := len(batch["objects"].flatten().field("mentions").flatten()):
            part.statistics["further mentions of objects"] += mentions
    with part.open(f"{part.name}.parquet") as stream:
        write_table(stream, _to_table(counts), {"statistics_version": "1"}, group_rows=4096, group_bytes=1 << 24)


def _to_table(counts: Counter[tuple[str, str]]) -> pa.Table:
    """Returns counts by (kind, label) as a table with the schema `COUNTS`, in the order that `COUNTS` describes."""
    rows = sorted(counts.items(), key=lambda item: (NODE_COLUMNS.index(item[0][0]), -item[1], item[0][1]))
    columns = [[kind for (kind, _), _ in rows], [lemma for (_, lemma), _ in rows], [count for _, count in rows]]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, COUNTS, strict=True)], COUNTS)


def _publish(path: AnyPath, write: Callable[[BinaryIO], None]) -> None:
    data = io.BytesIO()
    write(data)
    write_atomic(path, data.getvalue())


def _draw(table: pa.Table, statistics: Counter[str], stream: BinaryIO) -> None:
    """Draws the most frequent labels of each kind, and the count of a label by its rank."""
    from matplotlib.figure import Figure  # imported late, because it takes a second

    figure = Figure(figsize=(16, 6), layout="constrained")
    *bars, ranks = figure.subplots(1, len(NODE_COLUMNS) + 1)
    for axes, kind in zip(bars, NODE_COLUMNS, strict=True):
        rows = table.filter(pc.equal(table["kind"], kind))
        top = rows.slice(0, SHOWN)
        axes.barh(top["lemma"].to_pylist(), top["count"].to_numpy(), color=COLOURS[kind])
        axes.invert_yaxis()
        share = statistics[f"captions with {kind}"] / max(statistics["rows"], 1)
        axes.set_title(f"{kind}: {statistics[kind]:,}, {len(rows):,} different\nin {share:.0%} of the captions")
        ranks.loglog(np.arange(1, len(rows) + 1), rows["count"].to_numpy(), color=COLOURS[kind], label=kind)
    ranks.set_title(f"{pluralize(statistics['rows'], 'caption')}\ncount of a label by its rank")
    ranks.legend()
    figure.savefig(stream, dpi=100)
