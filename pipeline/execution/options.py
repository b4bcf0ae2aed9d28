"""The options that every stage has."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

EngineKind = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Processes of this machine, or tasks of a Ray cluster.")
]
RayAddress = Annotated[str | None, typer.Option(help="Of a running Ray cluster; default a new Ray on this machine.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes; with Ray, parts at a time.")]
MaxRejects = Annotated[float, typer.Option(min=0, max=1, help="Share of rejected rows that is too much.")]
Overwrite = Annotated[bool, typer.Option(help="Replace the output of a run with other settings.")]
