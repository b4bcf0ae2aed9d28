"""The command ``python -m matcher.score MODEL PHOTO TEXT...``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from matcher.options import ModelArgument, RegionsOption, WeightsOption
from parsers.command import console, run

app = typer.Typer(add_completion=False)


@app.command(epilog='Example: ernie-vil match score my-matcher photo.jpg "a red ball" "two dogs"')
def main(
    model: ModelArgument,
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="A photo or, with --regions, its image id.")],
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts to compare with the photo.")],
    regions: RegionsOption = None,
    weights: WeightsOption = None,
) -> None:
    """Score texts with a photo: log-odds that they belong together, the best first."""
    from matcher.scorer import Matcher  # late: PyTorch takes seconds, and --help should answer at once

    scores = Matcher(model, regions=regions, weights=weights).score(photo, texts).tolist()
    table = Table("log-odds", "text", box=None)
    for score, text in sorted(zip(scores, texts, strict=True), reverse=True):
        table.add_row(f"{score:.2f}", text)
    console.print(table)


if __name__ == "__main__":
    run(app)
