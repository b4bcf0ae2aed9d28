"""Captions to scene graphs: ``python -m pipeline.parse CAPTIONS... --out data/graphs``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

import parsers
from pipeline import captions
from pipeline.captions import CaptionRow
from pipeline.executor import Part, Reject, file_fingerprint, print_report, run_stage
from pipeline.tables import GRAPHS, GRAPHS_VERSION, write_table
from shards.console import console, run
from shards.errors import InputError


@dataclass(frozen=True)
class Captions:
    """A partition: rows of the sources, in order, good and bad."""

    rows: list[CaptionRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejects)


@dataclass(frozen=True)
class ParseStage:
    """Parses each caption once; an image's exact repetition of a caption is rejected."""

    sources: tuple[tuple[Path, str], ...]
    """(file, format)"""
    parser: str
    parser_version: str
    partition_size: int
    options: tuple[tuple[str, str], ...] = ()
    """of the parser"""
    name: str = "parse"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.executor.Stage`."""
        return {
            "inputs": [{**file_fingerprint(path), "format": format} for path, format in self.sources],
            "parser": {"name": self.parser, "version": self.parser_version, **dict(self.options)},
            "partition_size": self.partition_size,
            "graphs_version": GRAPHS_VERSION,
        }

    def total(self) -> int | None:
        """Not known before the sources are read."""
        return None

    def estimated_bytes(self) -> int:
        """See `pipeline.executor.Stage`."""
        return 2 * sum(path.stat().st_size for path, _ in self.sources)

    def partitions(self) -> Iterator[Captions]:
        """Runs of ``partition_size`` rows over all sources."""
        seen: set[bytes] = set()
        partition = Captions()
        for path, format in self.sources:
            for row in captions.read(path, format):
                if isinstance(row, Reject):
                    partition.rejects.append(row)
                elif (digest := _digest(row)) in seen:
                    partition.rejects.append(Reject(row.source, row.position, "duplicate caption of the image"))
                else:
                    seen.add(digest)
                    partition.rows.append(row)
                if len(partition) == self.partition_size:
                    yield partition
                    partition = Captions()
        if len(partition):
            yield partition

    def worker(self) -> Callable[[Captions, Part], None]:
        """Builds the parser; see `pipeline.executor.Stage`."""
        parser = parsers.get(self.parser, **dict(self.options))
        metadata = {"graphs_version": GRAPHS_VERSION, "parser": parser.name, "parser_version": parser.version}

        def parse(partition: Captions, part: Part) -> None:
            texts = dict.fromkeys(row.caption for row in partition.rows)
            parsed = dict(zip(texts, parser.parse(list(texts)), strict=True))
            graphs = [parsed[row.caption] for row in partition.rows]
            columns: dict[str, list[Any]] = {
                "image_id": [row.image_id for row in partition.rows],
                "caption_id": [row.caption_id for row in partition.rows],
                "caption": [row.caption for row in partition.rows],
                "objects": [],
                "attributes": [],
                "relations": [],
            }
            for graph in graphs:
                for kind, nodes in graph.to_dict().items():
                    columns[kind].append(nodes)
                    part.statistics[kind] += len(nodes)
            with part.open(f"{part.name}.parquet") as stream:
                write_table(stream, "graphs", pa.table(columns, GRAPHS), metadata)
            part.rejects.extend(partition.rejects)
            part.statistics["rows"] += len(partition)
            part.statistics["captions"] += len(graphs)

        return parse

    def finish(self, out: Path, parts: int) -> None:
        """Nothing to merge."""


def _digest(row: CaptionRow) -> bytes:
    return hashlib.blake2b(f"{row.image_id}\0{row.caption}".encode(), digest_size=16).digest()


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.parse captions_val2017.json --out data/graphs --workers 8")
def main(
    sources: Annotated[list[Path], typer.Argument(metavar="CAPTIONS...", help="Caption files.")],
    out: Annotated[Path, typer.Option(help="Folder for the graphs.")],
    parser: Annotated[str, typer.Option(help="Which parser reads the captions; see docs/parsers.md.")] = "neural",
    spacy_model: Annotated[
        str | None, typer.Option(help="An installed English spaCy model, for the parsers that read its trees.")
    ] = None,
    format: Annotated[str, typer.Option(help=f"auto, {', '.join(captions.FORMATS)}")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="Captions in a part.")] = 10_000,
    max_rejects: Annotated[float, typer.Option(min=0, max=1, help="Share of rejected rows that is too much.")] = 0.01,
    overwrite: Annotated[bool, typer.Option(help="Replace the output of a run with other settings.")] = False,
) -> None:
    """Parse captions into scene graphs (Parquet)."""
    if format != "auto" and format not in captions.FORMATS:
        raise typer.BadParameter(f"{format!r} is none of auto, {', '.join(captions.FORMATS)}", param_hint="--format")
    recognised = []
    for path in sources:
        found, why = (format, "as given") if format != "auto" else captions.recognise(path)
        console.print(f"{path}: {found} ({why})")
        recognised.append((path, found))
    options = {} if spacy_model is None else {"spacy_model": spacy_model}
    try:
        version = parsers.get(parser, **options).version
    except TypeError as error:
        raise InputError(f"the parser {parser!r} takes no --spacy-model") from error
    except (ValueError, OSError, ImportError) as error:
        raise InputError(str(error)) from error
    stage = ParseStage(tuple(recognised), parser, version, partition_size, tuple(options.items()))
    report = run_stage(stage, out, workers=workers, max_rejects=max_rejects, overwrite=overwrite)
    print_report("Scene graphs", out, report)


if __name__ == "__main__":
    run(app)
