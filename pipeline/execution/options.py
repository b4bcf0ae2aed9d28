"""The command-line options that every stage has."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

EngineKind = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="Make the parts in processes of this machine, or as tasks of a Ray cluster."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="The address of a running Ray cluster. Without it a new Ray starts on this machine."),
]
Workers = Annotated[int, typer.Option(min=1, help="How many parts are made at a time.")]
MaxRejects = Annotated[float, typer.Option(min=0, max=1, help="Fail if more than this share of rows is rejected.")]
Overwrite = Annotated[bool, typer.Option(help="Replace the output of a run that had other settings.")]
