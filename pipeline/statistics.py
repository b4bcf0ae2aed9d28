"""What a corpus of scene graphs holds: ``python -m pipeline.statistics GRAPHS... --out data/statistics``."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from parsers.command import console, run
from pipeline.execution.engines import Engine, Work
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, Overwrite, RayAddress, Workers
from pipeline.execution.parts import Part
from pipeline.files import fingerprint, location
from pipeline.graph_table import GRAPHS_VERSION, write_graphs
from shards.stage_folder import parts_of, read_metadata
from shards.storage.files import AnyPath, write_atomic
from shards.storage.parquet import parquet_file

KINDS = ("objects", "attributes", "relations")
VOCABULARY = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("lemma", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
"""One row a label of a kind of node, most frequent first."""
NODES = "nodes.parquet"
COLOURS = {"objects": "#0891b2", "attributes": "#16a34a", "relations": "#c026d3"}
SHOWN = 20
"""Labels of each kind in the picture."""


@dataclass(frozen=True)
class StatisticsStage:
    """Counts the nodes of graphs: each part of the graphs becomes one of counts, which are added up at the end."""

    graphs: tuple[AnyPath, ...]
    name: str = "statistics"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.execution.executor.Stage`."""
        return {"graphs": [fingerprint(part) for part in self.partitions()], "graphs_version": GRAPHS_VERSION}

    def partitions(self) -> Iterator[AnyPath]:
        """The parts of the graphs."""
        for folder in self.graphs:
            yield from parts_of(folder)

    def total(self) -> int | None:
        """See `pipeline.execution.executor.Stage`."""
        return sum(1 for _ in self.partitions())

    def estimated_bytes(self) -> int:
        """Less than the graphs."""
        return sum(part.stat().st_size for part in self.partitions())

    def worker(self) -> Work:
        """See `pipeline.execution.executor.Stage`."""
        return self._count

    def _count(self, source: AnyPath, part: Part) -> None:
        read_metadata(source, "graphs_version", GRAPHS_VERSION)
        counts: Counter[tuple[str, str]] = Counter()
        for batch in parquet_file(source).iter_batches(columns=["caption", *KINDS]):
            part.statistics["rows"] += len(batch)
            part.statistics["words"] += pc.sum(pc.list_value_length(pc.utf8_split_whitespace(batch["caption"]))).as_py()
            for kind in KINDS:
                lengths = batch[kind].value_lengths().to_numpy(zero_copy_only=False)
                part.statistics[kind] += int(lengths.sum())
                part.statistics[f"captions with {kind}"] += int((lengths > 0).sum())
                for entry in batch[kind].flatten().field("lemma").value_counts().to_pylist():
                    counts[kind, entry["values"]] += entry["counts"]
        with part.open(f"{part.name}.parquet") as stream:
            write_graphs(stream, _table(counts), {"statistics_version": "1"})

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Adds the counts up and draws them."""
        tables = [parquet_file(out / f"part-{number:05d}.parquet").read() for number in range(parts)]
        summed = pa.concat_tables(tables).group_by(["kind", "lemma"]).aggregate([("count", "sum")])
        counts = Counter({(row["kind"], row["lemma"]): row["count_sum"] for row in summed.to_pylist()})
        table = _table(counts)
        _publish(out / NODES, lambda stream: pq.write_table(table, stream, compression="zstd"))
        _publish(out / "nodes.png", lambda stream: _draw(table, statistics, stream))


def _table(counts: Counter[tuple[str, str]]) -> pa.Table:
    rows = sorted(counts.items(), key=lambda item: (KINDS.index(item[0][0]), -item[1], item[0][1]))
    columns = [[kind for (kind, _), _ in rows], [lemma for (_, lemma), _ in rows], [count for _, count in rows]]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, VOCABULARY, strict=True)], VOCABULARY
    )


def _publish(path: AnyPath, write: Callable[[BinaryIO], None]) -> None:
    data = io.BytesIO()
    write(data)
    write_atomic(path, data.getvalue())


def _draw(table: pa.Table, statistics: Counter[str], stream: BinaryIO) -> None:
    """The most frequent labels of each kind, and how frequent labels of each rank are."""
    from matplotlib.figure import Figure  # late: it takes a second

    figure = Figure(figsize=(16, 6), layout="constrained")
    *bars, ranks = figure.subplots(1, len(KINDS) + 1)
    for axes, kind in zip(bars, KINDS, strict=True):
        rows = table.filter(pc.equal(table["kind"], kind))
        top = rows.slice(0, SHOWN)
        axes.barh(top["lemma"].to_pylist(), top["count"].to_numpy(), color=COLOURS[kind])
        axes.invert_yaxis()
        share = statistics[f"captions with {kind}"] / max(statistics["rows"], 1)
        axes.set_title(f"{kind}: {statistics[kind]:,}, {len(rows):,} different\nin {share:.0%} of the captions")
        ranks.loglog(np.arange(1, len(rows) + 1), rows["count"].to_numpy(), color=COLOURS[kind], label=kind)
    ranks.set_title(f"{statistics['rows']:,} captions\ncount of a label by its rank")
    ranks.legend()
    figure.savefig(stream, dpi=100)


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.statistics data/graphs --out data/statistics")
def main(
    graphs: Annotated[list[str], typer.Argument(metavar="GRAPHS...", help="Folders of pipeline.parse.")],
    out: Annotated[str, typer.Option(help="Folder for the counts and their picture.")],
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    overwrite: Overwrite = False,
) -> None:
    """Count objects, attributes and relations of a corpus (Parquet and PNG)."""
    folder = location(out)
    stage = StatisticsStage(tuple(location(path) for path in graphs))
    report = run_stage(stage, folder, Engine(engine, workers, ray_address), max_rejects=0, overwrite=overwrite)
    print_report("Scene graphs", folder, report)
    for kind in KINDS:
        share = report.statistics[f"captions with {kind}"] / max(report.statistics["rows"], 1)
        console.print(f"{share:.1%} of the captions have {kind}")
    console.print(f"every label with its count: {folder / NODES}; picture: {folder / 'nodes.png'}")


if __name__ == "__main__":
    run(app)
