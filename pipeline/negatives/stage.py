"""The stage that makes false captions of scene graphs."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from parsers.checksums import sha256_of
from parsers.graph import SceneGraph
from pipeline.execution.engines import Work
from pipeline.execution.parts import Part, Reject
from pipeline.files import fingerprint, is_local
from pipeline.graph_table import GRAPHS, GRAPHS_VERSION, NODE_COLUMNS, read_graphs, tabulate_spans
from pipeline.negative_table import NEGATIVES, tabulate_graphs, write_negatives
from pipeline.negatives.edits import FalseCaption
from pipeline.negatives.lexicon import FILE, Lexicon, read_lexicon
from pipeline.negatives.makers import make_false_captions
from pipeline.negatives.picture import Picture
from pipeline.negatives.replacements import DIGITS
from pipeline.row_store import RowStore
from shards.negatives.table import NEGATIVES_VERSION
from shards.schema import NEGATIVE_KINDS
from shards.stage_folder import parts_of
from shards.storage.files import AnyPath

RULES_VERSION = "2"
"""This changes with the rules that make false captions."""
GraphRow = dict[str, Any]
"""A row of `pipeline.graph_table.GRAPHS`."""


@dataclass(frozen=True)
class ImagePartition:
    """Some images with all their captions, so that a worker needs no more."""

    captions: pa.Table
    """a table of `pipeline.graph_table.GRAPHS`, image by image"""
    counts: list[int]
    """how many captions each image has"""
    frequencies: Mapping[str, int]
    """how often the whole corpus has each name of the lexicon"""


@dataclass(frozen=True)
class NegativesStage:
    """Makes false captions of all captions of graphs. The captions of an image are looked at together."""

    graphs: tuple[AnyPath, ...]
    """folders of `pipeline.parse`"""
    out: AnyPath
    kinds: tuple[str, ...] = NEGATIVE_KINDS
    """the kinds to make, in the order of `shards.schema.NEGATIVE_KINDS`"""
    per_kind: int = 1
    """at most so many of each kind of each caption"""
    partition_size: int = 10_000
    """captions of a part; an image is not divided"""
    seed: int = 0
    name: str = "negatives"

    def inputs(self) -> tuple[AnyPath, ...]:
        """See `pipeline.execution.executor.Stage`."""
        return self.graphs

    def fingerprint(self) -> dict[str, object]:
        """See `pipeline.execution.executor.Stage`."""
        return {
            "graphs": [fingerprint(part) for folder in self.graphs for part in parts_of(folder)],
            "kinds": list(self.kinds),
            "per_kind": self.per_kind,
            "partition_size": self.partition_size,
            "seed": self.seed,
            "lexicon": sha256_of(FILE),
            "rules_version": RULES_VERSION,
            "graphs_version": GRAPHS_VERSION,
            "negatives_version": NEGATIVES_VERSION,
        }

    def total(self) -> int | None:
        """Returns None: the number of partitions is not known before the graphs are read."""
        return None

    def estimated_bytes(self) -> int:
        """Returns twice the size of the graphs for each kind that a caption may have."""
        return 2 * self.per_kind * sum(part.stat().st_size for folder in self.graphs for part in parts_of(folder))

    def partitions(self) -> Iterator[ImagePartition]:
        """Yields runs of images with about ``partition_size`` captions."""
        with contextlib.ExitStack() as stack:
            # The file is as large as the graphs, so it lies beside the output if that is on a disk.
            scratch = str(self.out) if is_local(self.out) else stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(scratch) / "captions.arrow"
            stack.callback(path.unlink, missing_ok=True)
            captions = RowStore("captions", self.graphs, read_graphs, GRAPHS, path)
            ends = np.cumsum(captions.counts)
            cuts = np.searchsorted(ends, np.arange(self.partition_size, len(captions), self.partition_size)) + 1
            for start, end in pairwise(np.unique([0, *cuts.tolist(), len(ends)]).tolist()):
                images = np.arange(start, end)
                yield ImagePartition(captions.take(images), captions.counts[images].tolist(), self._frequencies)

    @cached_property
    def _frequencies(self) -> Mapping[str, int]:
        """How often the corpus has each name of the lexicon as an object, an attribute or a relation."""
        lexicon = read_lexicon()
        counts: Counter[str] = Counter()
        for folder in self.graphs:
            for part in parts_of(folder):
                for batch in read_graphs(part, 1 << 16, NODE_COLUMNS):
                    for kind in NODE_COLUMNS:
                        for entry in batch[kind].flatten().field("lemma").value_counts().to_pylist():
                            lemma = entry["values"].lower()
                            name = lexicon.find_object(lemma) if kind == "objects" else lemma
                            if name is not None:
                                counts[name] += entry["counts"]
        known = {*lexicon.objects.names, *lexicon.attributes.names, *lexicon.relations.names, *lexicon.actions.names}
        return {name: count for name, count in sorted(counts.items()) if name in known}

    def worker(self) -> Work[ImagePartition]:
        """Reads the lexicon; see `pipeline.execution.executor.Stage`."""
        lexicon = read_lexicon()

        def make(partition: ImagePartition, part: Part) -> None:
            rows = partition.captions.to_pylist()
            found: list[tuple[GraphRow, list[FalseCaption]]] = []
            first = 0
            for count in partition.counts:
                of_image = rows[first : first + count]
                first += count
                part.statistics["rows"] += count
                try:
                    graphs = [SceneGraph.from_dict(row["caption"], row) for row in of_image]
                except ValueError as error:
                    part.rejects.append(Reject("graphs", of_image[0]["image_id"], f"a damaged graph: {error}"))
                    continue
                picture = Picture(graphs)
                for number, row in enumerate(of_image):
                    made = self._make(picture, number, row, partition.frequencies, lexicon)
                    _count(graphs[number], made, part.statistics)
                    found.append((row, made))
            with part.open(f"{part.name}.parquet") as stream:
                write_negatives(stream, _to_table(found))

        return make

    def _make(
        self, picture: Picture, number: int, row: GraphRow, frequencies: Mapping[str, int], lexicon: Lexicon
    ) -> list[FalseCaption]:
        if row["segments"]:  # a question with its answer is no sentence that is true or false
            return []
        key = f"{self.seed}\0{row['image_id']}\0{row['caption']}"
        return make_false_captions(picture, number, self.kinds, self.per_kind, frequencies, key, lexicon)

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Does nothing: there is nothing to merge."""


def _count(graph: SceneGraph, made: Sequence[FalseCaption], statistics: Counter[str]) -> None:
    statistics["false captions"] += len(made)
    statistics["captions without a false caption"] += not made
    numbers = [a for a in graph.attributes if a.lemma.isdigit() or a.lemma in DIGITS]
    for name, nodes in (*((name, getattr(graph, name)) for name in NODE_COLUMNS), ("numbers", numbers)):
        statistics[f"captions with {name}"] += bool(nodes)
    for kind in {false.kind for false in made}:
        statistics[f"captions with {kind}"] += 1


def _to_table(found: Sequence[tuple[GraphRow, Sequence[FalseCaption]]]) -> pa.Table:
    rows = [(row, number, false) for row, made in found for number, false in enumerate(made)]
    graphs = [false.graph for _, _, false in rows]
    columns = {
        "image_id": [row["image_id"] for row, _, _ in rows],
        "caption_id": [row["caption_id"] for row, _, _ in rows],
        "true_caption": [row["caption"] for row, _, _ in rows],
        "caption": [graph.caption for graph in graphs],
        "kind": [false.kind for _, _, false in rows],
        "negative_id": [f"{row['caption_id'] or row['image_id']}-{number}" for row, number, _ in rows],
        "spans": tabulate_spans([false.spans for _, _, false in rows]),
        "graph": tabulate_graphs(graphs),
    }
    return pa.table(columns, NEGATIVES)
