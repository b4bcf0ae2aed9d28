"""The stage that counts the labels of objects, attributes and relations, and finds what repeats.

Near-duplicates, and what a benchmark shares with the corpus, are found at the end in one process: comparing is so fast
that reading the captions again takes most of the time.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from parsers.command import pluralize, say
from pipeline.duplicates.corpus import CONTAMINATION, DUPLICATES, Corpus, Kind, count_groups, write_findings
from pipeline.duplicates.pictures import read_hashes
from pipeline.execution.engines import Work
from pipeline.execution.parts import Part
from pipeline.extract.images import PictureInput
from pipeline.files import fingerprint
from pipeline.graph_table import GRAPHS_VERSION, NODE_COLUMNS, read_graphs
from pipeline.statistics import benchmark
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath, write_atomic, write_json
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
CONTAMINATED: dict[Kind, str] = {kind: f"contaminated-by-{kind}.json" for kind in ("captions", "pictures")}
"""Lists of images that a benchmark has as well, for ``pipeline.pack --exclude-ids``."""
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
    regions: tuple[AnyPath, ...] = ()
    """folders of `pipeline.extract`, which saw the pictures"""
    benchmark_captions: tuple[tuple[AnyPath, str], ...] = ()
    """files of captions that the corpus should not hold, each with its format"""
    benchmark_pictures: tuple[PictureInput, ...] = ()
    """pictures that the corpus should not hold"""
    name: str = "statistics"

    def inputs(self) -> list[AnyPath]:
        """See `pipeline.execution.executor.Stage`."""
        captions = [path for path, _ in self.benchmark_captions]
        return [*self.graphs, *self.regions, *captions, *(source.path for source in self.benchmark_pictures)]

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "graphs": [fingerprint(part) for part in self.partitions()],
            "graphs_version": GRAPHS_VERSION,
            "regions": [fingerprint(part) for folder in self.regions for part in parts_of(folder)],
            "benchmark_captions": [{**fingerprint(path), "format": name} for path, name in self.benchmark_captions],
            "benchmark_pictures": [source.fingerprint() for source in self.benchmark_pictures],
        }

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
        """Adds the counts up, draws them, and looks for what repeats."""
        tables = [parquet_file(out / f"part-{number:05d}.parquet").read() for number in range(parts)]
        summed = pa.concat_tables(tables).group_by(["kind", "lemma"]).aggregate([("count", "sum")])
        counts = Counter({(row["kind"], row["lemma"]): row["count_sum"] for row in summed.to_pylist()})
        table = _to_table(counts)
        _publish(out / NODES, lambda stream: pq.write_table(table, stream, compression="zstd"))
        _publish(out / PICTURE, lambda stream: _draw(table, statistics, stream))
        self._find_duplicates(out, statistics)

    def _find_duplicates(self, out: AnyPath, statistics: Counter[str]) -> None:
        """Writes near-duplicates and contamination, and adds their counts to ``statistics``."""
        corpora = {"captions": Corpus.read("captions", partial(_read_captions, list(self.partitions())))}
        if self.regions:
            corpora["pictures"] = Corpus.read("pictures", partial(_read_hashes, self.regions))
            statistics["pictures that were compared"] = int((corpora["pictures"].index.entries >= 0).sum())
        groups = pa.concat_tables([corpus.tabulate_groups() for corpus in corpora.values()])
        write_findings(groups, out / DUPLICATES)
        statistics.update(count_groups(groups))
        benchmarks = []
        if self.benchmark_captions:
            benchmarks.append(benchmark.read_captions(self.benchmark_captions))
        if self.benchmark_pictures:
            benchmarks.append(benchmark.read_pictures(self.benchmark_pictures))
        matches = [corpora[other.kind].tabulate_matches(other) for other in benchmarks]
        for table, other in zip(matches, benchmarks, strict=True):
            images = sorted(set(table["image_id"].to_pylist()))
            path = out / CONTAMINATED[other.kind]
            write_json(images, path)
            statistics[f"images with {other.kind} of the benchmark"] = len(images)
            say(f"{pluralize(len(images), 'image')} with {other.kind} of the benchmark: {path}")
        if matches:
            write_findings(pa.concat_tables(matches), out / CONTAMINATION)


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


def _read_captions(parts: Sequence[AnyPath]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        yield from read_graphs(part, BATCH, ["image_id", "caption_id", "caption"])


def _read_hashes(folders: Sequence[AnyPath]) -> Iterator[pa.RecordBatch]:
    for folder in folders:
        yield from read_hashes(folder)


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
