"""The command ``python -m pipeline.negatives GRAPHS... --out data/negatives``."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import console, run
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress, Workers
from pipeline.files import location
from pipeline.negatives.stage import NegativesStage
from shards.schema import NEGATIVE_KINDS

NODES = {"replace_number": "numbers", "replace_attribute": "attributes", "replace_relation": "relations"}
"""The nodes that a caption needs for a false caption of a kind. For the other replacements and additions it needs an
object; for a swap it needs two nodes that may change places."""
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil negatives data/graphs --out data/negatives --workers 8")
def main(
    graphs: Annotated[list[str], typer.Argument(metavar="GRAPHS...", help="Folders that pipeline.parse wrote.")],
    out: Annotated[str, typer.Option(help="The folder for the false captions.")],
    kinds: Annotated[
        str, typer.Option(help=f"The kinds to make, separated by commas: {', '.join(NEGATIVE_KINDS)}. Without it all.")
    ] = "",
    per_kind: Annotated[int, typer.Option(min=1, help="Make at most so many of each kind of a caption.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another number makes other false captions.")] = 0,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="How many captions a part holds.")] = 10_000,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Make false captions of scene graphs: words swapped, replaced or added (Parquet)."""
    named = {kind.strip() for kind in kinds.split(",")} - {""}
    if unknown := sorted(named - set(NEGATIVE_KINDS)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(NEGATIVE_KINDS)}", param_hint="--kinds")
    folder = location(out)
    stage = NegativesStage(
        tuple(location(path) for path in graphs),
        folder,
        tuple(kind for kind in NEGATIVE_KINDS if not named or kind in named),
        per_kind,
        partition_size,
        seed,
    )
    report = run_stage(
        stage, folder, Engine(engine, workers, ray_address), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report("False captions", folder, report)
    table = Table("kind", "captions that got one", "share of the captions with such nodes")
    for kind in stage.kinds:
        got = report.statistics[f"captions with {kind}"]
        possible = report.statistics[f"captions with {NODES.get(kind, 'objects')}"]
        table.add_row(kind, f"{got:,}", "" if kind.startswith("swap") else f"{got / max(possible, 1):.1%}")
    console.print(table)


if __name__ == "__main__":
    run(app)
