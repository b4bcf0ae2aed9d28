"""The command ``python -m pipeline.statistics GRAPHS... --out data/statistics``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from parsers.command import console, run
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, Overwrite, RayAddress, Workers
from pipeline.files import location
from pipeline.graph_table import NODE_COLUMNS
from pipeline.statistics.stage import NODES, PICTURE, StatisticsStage

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil statistics data/graphs --out data/statistics")
def main(
    graphs: Annotated[list[str], typer.Argument(metavar="GRAPHS...", help="Folders that pipeline.parse wrote.")],
    out: Annotated[str, typer.Option(help="The folder for the counts and their picture.")],
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
    for kind in NODE_COLUMNS:
        share = report.statistics[f"captions with {kind}"] / max(report.statistics["rows"], 1)
        console.print(f"{share:.1%} of the captions have {kind}")
    console.print(f"every label with its count: {folder / NODES}; picture: {folder / PICTURE}")


if __name__ == "__main__":
    run(app)
