"""Others' detector features to regions: ``python -m pipeline.regions SOURCE... --out data/regions``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pipeline.engines import Engine
from pipeline.executor import print_report, run_stage
from pipeline.files import expand, fingerprint, location
from pipeline.options import EngineKind, MaxRejects, Overwrite, RayAddress, Workers
from pipeline.parts import Part, Reject
from pipeline.region_formats import FORMATS, recognise
from pipeline.tables import regions_table, write_table
from shards.console import console, run
from shards.files import AnyPath, read_lines
from shards.regions import RegionsInfo, RegionsRow


@dataclass(frozen=True)
class RegionsStage:
    """Checks and converts the regions of every image."""

    files: tuple[AnyPath, ...]
    format: str
    info: RegionsInfo
    partition_size: int
    name: str = "regions"

    def fingerprint(self) -> dict[str, Any]:
        """See `pipeline.executor.Stage`."""
        return {
            "inputs": [fingerprint(path) for path in self.files],
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
        rows: list[RegionsRow] = []
        for row in FORMATS[self.format].read(partition, self.info):
            part.statistics["rows"] += 1
            if isinstance(row, Reject):
                part.rejects.append(row)
                continue
            part.statistics["images"] += 1
            part.statistics["boxes"] += len(row.regions.boxes)
            rows.append(row)
        with part.open(f"{part.name}.parquet") as stream:
            write_table(stream, "regions", regions_table(rows), self.info.to_metadata())

    def finish(self, out: AnyPath, parts: int, statistics: Counter[str]) -> None:
        """Nothing to merge."""


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.regions features/ --out data/regions")
def main(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Feature files or folders, here or elsewhere; or patterns.")
    ],
    out: Annotated[str, typer.Option(help="Folder for the regions; one for each run.")],
    format: Annotated[str, typer.Option(help=f"auto, {', '.join(FORMATS)}")] = "auto",
    class_names: Annotated[
        str | None, typer.Option(help="Names of the detector's classes, one a line, without the background.")
    ] = None,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="About how many images in a part.")] = 1_000,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Convert detector region features into one table (Parquet)."""
    if format != "auto" and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of auto, {', '.join(FORMATS)}", param_hint="--format")
    paths = expand(sources)
    found, why = recognise(paths) if format == "auto" else (format, "as given")
    console.print(f"{paths[0]}: {found} ({why})")
    names = None if class_names is None else read_lines(location(class_names))
    reader = FORMATS[found]
    info = reader.inspect(paths, names)
    stage = RegionsStage(tuple(reader.files(paths)), found, info, partition_size)
    folder = location(out)
    report = run_stage(
        stage, folder, Engine(engine, workers, ray_address), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report(f"Regions of {info.feature_size} features, classes: {info.classes.kind}", folder, report)


if __name__ == "__main__":
    run(app)
