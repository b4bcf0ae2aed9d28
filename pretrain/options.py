"""The option that all commands with a recipe share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe, e.g. optimizer.learning_rate=1e-4; may be repeated.",
    ),
]


def as_arguments(settings: Sequence[str]) -> list[str]:
    """Returns the settings as they stand on a command line."""
    return [part for setting in settings for part in ("--set", setting)]
