"""The command ``python -m pipeline.regions SOURCE... --out data/regions``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from parsers.command import console, run
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress, Workers
from pipeline.files import expand, location
from pipeline.regions.formats import FORMATS, recognise_regions
from pipeline.regions.stage import RegionsStage
from shards.storage.files import read_text_lines

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil regions features/ --out data/regions")
def main(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Feature files, folders or patterns, on this machine or on a store."),
    ],
    out: Annotated[str, typer.Option(help="The folder for the regions. Each run needs its own.")],
    format: Annotated[str, typer.Option(help=f"The format of the sources: auto, {', '.join(FORMATS)}.")] = "auto",
    class_names: Annotated[
        str | None,
        typer.Option(help="A file with the names of the detector's classes, one a line, without the background."),
    ] = None,
    feature_size: Annotated[
        int | None,
        typer.Option(min=1, help="The numbers in a feature, where bytes may be float16 or float64 instead of float32."),
    ] = None,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="About how many images a part holds.")] = 1_000,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Convert detector region features into one table (Parquet)."""
    if format != "auto" and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of auto, {', '.join(FORMATS)}", param_hint="--format")
    paths = expand(sources)
    found, why = recognise_regions(paths) if format == "auto" else (format, "as given")
    console.print(f"{paths[0]}: {found} ({why})")
    names = None if class_names is None else read_text_lines(location(class_names))
    stage = RegionsStage.open(paths, found, class_names=names, feature_size=feature_size, partition_size=partition_size)
    folder = location(out)
    report = run_stage(
        stage, folder, Engine(engine, workers, ray_address), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report(
        f"Regions with features of size {stage.info.feature_size}, classes: {stage.info.classes.kind}", folder, report
    )


if __name__ == "__main__":
    run(app)
