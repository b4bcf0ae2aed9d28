"""The option ``--columns`` of all commands that read captions."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.parse.rows import Columns

_NAMES = ("image_id", "caption_id", "caption")


def parse_columns(text: str) -> Columns:
    """Returns ``image_id=url,caption=text`` as a mapping.

    Raises:
        typer.BadParameter: the text is not of this form.
    """
    pairs = [part.partition("=") for part in text.split(",") if part]
    columns = {name.strip(): value.strip() for name, _, value in pairs}
    if not all(columns.values()) or not columns.keys() <= {*_NAMES}:
        raise typer.BadParameter(
            "expected NAME=COLUMN with the names image_id, caption_id and caption, separated by commas"
        )
    return columns


ColumnsOption = Annotated[
    Columns | None,
    typer.Option(
        parser=parse_columns,
        metavar="NAME=COLUMN,...",
        help="What the columns of a table of captions are called, for example image_id=photo,caption=text.",
    ),
]
