"""The argument that the commands with a recipe share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
]


def as_arguments(settings: Sequence[str]) -> list[str]:
    """What stands on a command line for them."""
    return [part for setting in settings for part in ("--set", setting)]
