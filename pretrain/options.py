"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe, e.g. optimizer.learning_rate=1e-4; may be repeated.",
    ),
]

ConfigOption = Annotated[
    str, typer.Option(help="The recipe: the name of one that comes with the project, or a YAML file.")
]
ModelOption = Annotated[Path, typer.Option(help="A model, or the run that wrote it.")]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where the model computes. With auto it is a GPU if there is one."),
]


def as_arguments(settings: Sequence[str]) -> list[str]:
    """Returns the settings as they stand on a command line."""
    return [part for setting in settings for part in ("--set", setting)]
