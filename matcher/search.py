"""The command ``python -m matcher.search MODEL TEXT PHOTOS``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from matcher.options import ModelArgument, RegionsOption, WeightsOption
from parsers.command import run, say

app = typer.Typer(add_completion=False)


@app.command(epilog='Example: ernie-vil match search my-matcher "a red ball" photos/ -n 5')
def main(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to look for.")],
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="The folder of the photos.")],
    n: Annotated[int, typer.Option("--num-images", "-n", min=1, help="Print this many photos.")] = 10,
    regions: RegionsOption = None,
    weights: WeightsOption = None,
) -> None:
    """Find the photos of a folder that fit a text best: log-odds and path, the best first."""
    from matcher.scorer import Matcher  # late: PyTorch takes seconds, and --help should answer at once

    for path, score in Matcher(model, regions=regions, weights=weights).search(text, photos)[:n]:
        say(f"{score:8.2f}  {path}")


if __name__ == "__main__":
    run(app)
