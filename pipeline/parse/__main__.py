"""The command ``python -m pipeline.parse CAPTIONS... --out data/graphs``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import parsers
from parsers.command import InputError, console, run
from parsers.graph import MIN_VISIBLE
from pipeline.execution.engines import Engine
from pipeline.execution.executor import print_report, run_stage
from pipeline.execution.options import EngineKind, MaxRejects, Overwrite, RayAddress, Workers
from pipeline.files import expand, location
from pipeline.parse.formats import FORMATS
from pipeline.parse.options import ColumnsOption
from pipeline.parse.recognition import recognise_captions
from pipeline.parse.stage import ParseStage

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil parse captions_val2017.json --out data/graphs --workers 8")
def main(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="CAPTIONS...", help="Caption files or patterns, on this machine or on a store."),
    ],
    out: Annotated[str, typer.Option(help="The folder for the graphs.")],
    parser: Annotated[
        str, typer.Option(help="The parser that reads the captions, or the folder of one that was trained.")
    ] = "neural",
    spacy_model: Annotated[
        str | None, typer.Option(help="An installed English spaCy model, if the parser reads spaCy's trees.")
    ] = None,
    format: Annotated[str, typer.Option(help=f"The format of the files: auto, {', '.join(FORMATS)}.")] = "auto",
    columns: ColumnsOption = None,
    splits: Annotated[
        str,
        typer.Option(
            help="The splits of a Karpathy file to take, for example train,restval,val. Without it all but test."
        ),
    ] = "",
    min_visible: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out nodes that are less likely to be seen in a picture; 0 keeps all."),
    ] = MIN_VISIBLE,
    engine: EngineKind = "local",
    ray_address: RayAddress = None,
    workers: Workers = os.cpu_count() or 1,
    partition_size: Annotated[int, typer.Option(min=1, help="How many captions a part holds.")] = 10_000,
    max_rejects: MaxRejects = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Parse captions into scene graphs (Parquet)."""
    if format != "auto" and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of auto, {', '.join(FORMATS)}", param_hint="--format")
    recognised = []
    for path in expand(sources):
        found, why = (format, "as given") if format != "auto" else recognise_captions(path, columns)
        console.print(f"{path}: {found} ({why})")
        recognised.append((path, found))
    options = {} if spacy_model is None else {"spacy_model": spacy_model}
    try:
        version = parsers.get(parser, **options).version
    except TypeError as error:
        raise InputError(f"the parser {parser!r} takes no --spacy-model") from error
    except (ValueError, OSError, ImportError) as error:
        raise InputError(str(error)) from error
    stage = ParseStage(
        tuple(recognised),
        parser,
        version,
        partition_size,
        tuple(options.items()),
        tuple((columns or {}).items()),
        tuple(sorted({split.strip() for split in splits.split(",")} - {""})),
        min_visible,
    )
    folder = location(out)
    report = run_stage(
        stage, folder, Engine(engine, workers, ray_address), max_rejects=max_rejects, overwrite=overwrite
    )
    print_report("Scene graphs", folder, report)


if __name__ == "__main__":
    run(app)
