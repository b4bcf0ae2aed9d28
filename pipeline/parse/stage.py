"""The stage that parses captions into scene graphs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

import parsers
from parsers.command import InputError
from parsers.graph import MIN_VISIBLE
from pipeline.execution.engines import Work
from pipeline.execution.parts import Part, Reject
from pipeline.files import fingerprint
from pipeline.graph_table import GRAPHS, GRAPHS_VERSION, OF_SPLIT, tabulate_nodes, write_graphs
from pipeline.parse import captions, formats
from pipeline.parse.captions import CaptionRow
from shards.storage.files import AnyPath

GIVEN = pa.schema([GRAPHS.field(name) for name in ("image_id", "caption_id", "caption", "segments")])
"""The columns of the graphs that come from the sources."""
TEST = "test"
"""the split that is left out unless it is asked for"""


@dataclass(frozen=True)
class CaptionPartition:
    """A run of rows of the sources, the good and the bad ones, each in order."""

    rows: pa.Table
    """the good rows, a table of `GIVEN`"""
    rejects: list[Reject]
    splits: Counter[str]
    """the number of good rows of each split of a benchmark"""
    left_out: Counter[str]
    """the number of rows that were left out because of their split"""
    unescaped: int
    """the number of good rows in whose captions HTML's entities were replaced"""


@dataclass(frozen=True)
class ParseStage:
    """Parses each caption once. A caption that an image already has is rejected."""

    sources: tuple[tuple[AnyPath, str], ...]
    """files, each with its format"""
    parser: str
    parser_version: str
    partition_size: int
    options: tuple[tuple[str, str], ...] = ()
    """options of the parser"""
    columns: tuple[tuple[str, str], ...] = ()
    """the names that tables have for ``image_id``, ``caption_id`` and ``caption``"""
    splits: tuple[str, ...] = ()
    """the splits of a benchmark that are taken; none: all but its test split"""
    min_visible: float = MIN_VISIBLE
    """nodes with a lower score are left out"""
    name: str = "parse"

    def inputs(self) -> list[AnyPath]:
        """See `pipeline.execution.executor.Stage`."""
        return [path for path, _ in self.sources]

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "inputs": [{**fingerprint(path), "format": format} for path, format in self.sources],
            "parser": {"name": self.parser, "version": self.parser_version, **dict(self.options)},
            "columns": dict(self.columns),
            "splits": list(self.splits),
            "min_visible": self.min_visible,
            "partition_size": self.partition_size,
            "formats_version": formats.VERSION,
            "graphs_version": GRAPHS_VERSION,
        }

    def total(self) -> int | None:
        """Returns None: the number of partitions is not known before the sources are read."""
        return None

    def estimated_bytes(self) -> int:
        """Returns twice the size of the sources."""
        return 2 * sum(path.stat().st_size for path, _ in self.sources)

    def partitions(self) -> Iterator[CaptionPartition]:
        """Yields runs of ``partition_size`` rows over all sources."""
        seen: set[bytes] = set()
        tars: dict[bytes, str] = {}
        rows: list[CaptionRow] = []
        rejects: list[Reject] = []
        left_out: Counter[str] = Counter()
        splits: set[str] = set()
        for path, format in self.sources:
            for row in captions.read(path, format, dict(self.columns)):
                if not isinstance(row, Reject) and row.split is not None:
                    splits.add(row.split)
                if isinstance(row, Reject):
                    rejects.append(row)
                elif row.split is not None and not self._takes(row.split):
                    left_out[row.split] += 1
                elif (digest := _digest(row)) in seen:
                    rejects.append(Reject(row.source, row.position, "duplicate caption of the image"))
                else:
                    seen.add(digest)
                    rows.append(row)
                    if row.is_key:
                        _refuse_shared_key(row, tars)
                if len(rows) + len(rejects) == self.partition_size:
                    yield _to_partition(rows, rejects, left_out)
                    rows, rejects, left_out = [], [], Counter()
        if rows or rejects or left_out:
            yield _to_partition(rows, rejects, left_out)
        if unknown := set(self.splits) - splits:
            raise InputError(
                f"--splits names {', '.join(sorted(unknown))}, but the captions have "
                f"{', '.join(sorted(splits)) or 'no splits'}"
            )

    def _takes(self, split: str) -> bool:
        """Returns whether the captions of a split are parsed."""
        return split in self.splits if self.splits else split != TEST

    def worker(self) -> Work[CaptionPartition]:
        """Builds the parser; see `pipeline.execution.executor.Stage`."""
        parser = parsers.get(self.parser, **dict(self.options))
        metadata = {"graphs_version": GRAPHS_VERSION, "parser": parser.name, "parser_version": parser.version}

        def parse(partition: CaptionPartition, part: Part) -> None:
            texts = partition.rows["caption"].to_pylist()
            distinct = list(dict.fromkeys(texts))
            parsed = dict(zip(distinct, parser.parse(distinct), strict=True))
            seen = {text: graph.keep_visible(self.min_visible) for text, graph in parsed.items()}
            table = partition.rows
            for kind, column in tabulate_nodes([seen[text] for text in texts]).items():
                table = table.append_column(GRAPHS.field(kind), column)
                part.statistics[kind] += len(column.values)
                if left_out := sum(len(getattr(parsed[text], kind)) for text in texts) - len(column.values):
                    part.statistics[f"left out: {kind} below --min-visible"] += left_out
            with part.open(f"{part.name}.parquet") as stream:
                write_graphs(stream, table, metadata)
            part.rejects.extend(partition.rejects)
            part.statistics["rows"] += len(texts) + len(partition.rejects)
            part.statistics["captions"] += len(texts)
            for split, count in partition.splits.items():
                part.statistics[f"{OF_SPLIT}{split}"] += count
            for split, count in partition.left_out.items():
                part.statistics[f"left out: {OF_SPLIT}{split}"] += count
            if partition.unescaped:
                part.statistics["captions with HTML entities"] += partition.unescaped

        return parse

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Does nothing: there is nothing to merge."""


def _refuse_shared_key(row: CaptionRow, tars: dict[bytes, str]) -> None:
    """Raises InputError if another tar has a sample of this key: two pictures would get one id.

    Args:
        row: a caption whose image id is the key of its sample.
        tars: which tar each key was found in; the row is added.
    """
    before = tars.setdefault(hashlib.blake2b(row.image_id.encode(), digest_size=16).digest(), row.source)
    if before != row.source:
        raise InputError(
            f"{before} and {row.source} both have a sample {row.image_id}, and no `url` in a .json tells their "
            "pictures apart; pack the tars again with keys that differ"
        )


def _to_partition(rows: list[CaptionRow], rejects: list[Reject], left_out: Counter[str]) -> CaptionPartition:
    splits = Counter(row.split for row in rows if row.split is not None)
    return CaptionPartition(_to_table(rows), rejects, splits, left_out, sum(row.unescaped for row in rows))


def _to_table(rows: list[CaptionRow]) -> pa.Table:
    columns = {
        "image_id": [row.image_id for row in rows],
        "caption_id": [row.caption_id for row in rows],
        "caption": [row.caption for row in rows],
        "segments": [row.segments or None for row in rows],
    }
    return pa.table(columns, GIVEN)


def _digest(row: CaptionRow) -> bytes:
    return hashlib.blake2b(f"{row.image_id}\0{row.caption}".encode(), digest_size=16).digest()
