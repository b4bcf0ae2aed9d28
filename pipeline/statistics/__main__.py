"""The command ``python -m pipeline.statistics GRAPHS... --out data/statistics``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from parsers.command import InputError, console, run
from pipeline.duplicates.corpus import DUPLICATES
from pipeline.duplicates.pictures import HASHES
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, Overwrite, RayAddress, Workers
from pipeline.extract.images import recognise_pictures
from pipeline.files import expand, location
from pipeline.graph_table import NODE_COLUMNS
from pipeline.parse.recognition import recognise_captions
from pipeline.statistics.stage import NODES, PICTURE, StatisticsStage

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil statistics data/graphs --out data/statistics")
def main(
    graphs: Annotated[list[str], typer.Argument(metavar="GRAPHS...", help="Folders that pipeline.parse wrote.")],
    out: Annotated[str, typer.Option(help="The folder for the counts and their picture.")],
    regions: Annotated[
        list[str], typer.Option(help="A folder that pipeline.extract wrote, for the pictures; may be repeated.")
    ] = [],  # noqa: B006
    benchmark_captions: Annotated[
        list[str], typer.Option(help="Captions of a benchmark, to be looked for in the corpus; may be repeated.")
    ] = [],  # noqa: B006
    benchmark_pictures: Annotated[
        list[str],
        typer.Option(help="Pictures of a benchmark, named as for pipeline.extract; needs --regions; may be repeated."),
    ] = [],  # noqa: B006
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    overwrite: Overwrite = False,
) -> None:
    """Count objects, attributes and relations of a corpus, and find what repeats (Parquet and PNG)."""
    if benchmark_pictures and not regions:
        raise typer.BadParameter("needs --regions to compare with", param_hint="--benchmark-pictures")
    folder, seen = location(out), tuple(location(path) for path in regions)
    for path in seen:
        if not any((path / HASHES).glob("part-*.parquet")):
            raise InputError(
                f"{path}: holds no {HASHES}/ of pictures, which ernie-vil extract writes; leave out --regions, or "
                "extract the regions again"
            )
    stage = StatisticsStage(
        tuple(location(path) for path in graphs),
        seen,
        tuple((path, recognise_captions(path)[0]) for path in expand(benchmark_captions)),
        tuple(recognise_pictures(path, "auto", None)[0] for path in expand(benchmark_pictures)),
    )
    report = run_stage(stage, folder, Engine(engine, workers, ray_address), max_rejects=0, overwrite=overwrite)
    print_report("Scene graphs", folder, report)
    for kind in NODE_COLUMNS:
        share = report.statistics[f"captions with {kind}"] / max(report.statistics["rows"], 1)
        console.print(f"{share:.1%} of the captions have {kind}")
    console.print(f"every label with its count: {folder / NODES}; picture: {folder / PICTURE}")
    console.print(f"what nearly repeats: {folder / DUPLICATES}")


if __name__ == "__main__":
    run(app)
