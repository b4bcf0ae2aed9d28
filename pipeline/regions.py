"""Others' detector features to regions: ``python -m pipeline.regions SOURCE... --out data/regions``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from pipeline.executor import Part, Reject, file_fingerprint, print_report, run_stage
from pipeline.region_formats import FORMATS, recognise
from pipeline.tables import REGIONS, RegionsInfo, write_table
from shards.console import console, run
from shards.errors import InputError


@dataclass(frozen=True)
class RegionsStage:
    """Checks and converts the regions of every image."""

    files: tuple[Path, ...]
    format: str
    info: RegionsInfo
    partition_size: int
    name: str = "regions"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.executor.Stage`."""
        return {
            "inputs": [file_fingerprint(path) for path in self.files],
            "format": self.format,
            "info": self.info.to_metadata(),
            "partition_size": self.partition_size,
        }

    def partitions(self) -> Iterator[Any]:
        """See `pipeline.region_formats.RegionFormat.partitions`."""
        return FORMATS[self.format].partitions(list(self.files), self.partition_size)

    def total(self) -> int | None:
        """See `pipeline.executor.Stage`."""
        return sum(1 for _ in self.partitions())

    def estimated_bytes(self) -> int:
        """At most what the sources have."""
        return sum(path.stat().st_size for path in self.files)

    def worker(self) -> Callable[[Any, Part], None]:
        """See `pipeline.executor.Stage`."""
        return self._convert

    def _convert(self, partition: Any, part: Part) -> None:
        rows = []
        for row in FORMATS[self.format].read(partition, self.info):
            part.statistics["rows"] += 1
            if isinstance(row, Reject):
                part.rejects.append(row)
                continue
            part.statistics["images"] += 1
            part.statistics["boxes"] += len(row.regions.boxes)
            rows.append(row.to_dict())
        with part.open(f"{part.name}.parquet") as stream:
            write_table(stream, "regions", pa.Table.from_pylist(rows, REGIONS), self.info.to_metadata())

    def finish(self, out: Path, parts: int) -> None:
        """Nothing to merge."""


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.regions features/ --out data/regions")
def main(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Feature files or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the regions; one for each run.")],
    format: Annotated[str, typer.Option(help=f"auto, {', '.join(FORMATS)}")] = "auto",
    class_names: Annotated[
        Path | None, typer.Option(help="Names of the detector's classes, one a line, without the background.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="About how many images in a part.")] = 1_000,
    max_rejects: Annotated[float, typer.Option(min=0, max=1, help="Share of rejected rows that is too much.")] = 0.01,
    overwrite: Annotated[bool, typer.Option(help="Replace the output of a run with other settings.")] = False,
) -> None:
    """Convert detector region features into one table (Parquet)."""
    if format != "auto" and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of auto, {', '.join(FORMATS)}", param_hint="--format")
    found, why = recognise(sources)
    if format != "auto":
        found, why = format, "as given"
    console.print(f"{sources[0]}: {found} ({why})")
    names = None if class_names is None else _read_names(class_names)
    reader = FORMATS[found]
    info = reader.inspect(sources, names)
    stage = RegionsStage(tuple(reader.files(sources)), found, info, partition_size)
    report = run_stage(stage, out, workers=workers, max_rejects=max_rejects, overwrite=overwrite)
    print_report(f"Regions of {info.feature_size} features, classes: {info.classes.kind}", out, report)


def _read_names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


if __name__ == "__main__":
    run(app)
