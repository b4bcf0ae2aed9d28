"""The arguments and options that `matcher.score` and `matcher.search` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="What matcher.train wrote, or a fine-tuned model of retrieval.", exists=True),
]
RegionsOption = Annotated[
    Path | None,
    typer.Option(help="Regions of the photos. Without it the detector finds them that the model records.", exists=True),
]
WeightsOption = Annotated[str | None, typer.Option(help="The detector's weights, if they have moved.")]
