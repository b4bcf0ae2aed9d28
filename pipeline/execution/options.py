"""The command-line options that every stage has."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

PANEL = "How the work is done"
"""the heading of the options that leave the output as it is, but for rejects"""

EngineKind = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        rich_help_panel=PANEL,
        help="Make the parts in processes of this machine, or as tasks of a Ray cluster.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=PANEL,
        help="The address of a running Ray cluster. Without it a new Ray starts on this machine.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, rich_help_panel=PANEL, help="How many parts are made at a time.")]
MaxRejects = Annotated[
    float,
    typer.Option(min=0, max=1, rich_help_panel=PANEL, help="Fail if more than this share of rows is rejected."),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=PANEL, help="Replace the output of a run that had other settings."),
]
