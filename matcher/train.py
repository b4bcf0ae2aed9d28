"""The command ``python -m matcher.train PHOTOS CAPTIONS --out my-matcher``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parsers.command import run
from pipeline.parse.options import ColumnsOption
from pretrain.options import Settings
from pretrain.training.settings import find_recipe
from shards.vocabulary import find_vocabulary

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil match photos/ captions.csv --out my-matcher")
def main(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="The folder of the photos.")],
    captions: Annotated[
        str,
        typer.Argument(
            metavar="CAPTIONS",
            help="A file with their captions in any format of pipeline.parse, for example CSV with the columns file "
            "and caption.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the matcher.")],
    start: Annotated[
        Path | None,
        typer.Option(
            help="A model to start from: a pretraining run, or an imported ERNIE-ViL. Without it a small one starts "
            "from nothing.",
            exists=True,
        ),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(help="Regions of the photos in any published format. No detector is needed then.", exists=True),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="The detector. Without it that of --start, or one that fits the hardware."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="The detector's weights, see pipeline.extract.")] = None,
    preset: Annotated[str | None, typer.Option(help="The detector's preset, see pipeline.extract.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="The vocabulary: a vocab.txt, the folder of a model, or a model of the hub. Without it that of "
            "--start, or one that is learned from the captions."
        ),
    ] = None,
    columns: ColumnsOption = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="The recipe: the name of one of retrieval, or a YAML file. Without it that for the size of the model."
        ),
    ] = None,
    set_: Settings = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a matcher that was made of something else.")
    ] = False,
) -> None:
    """Train a matcher of your photos and captions, and report how well it finds what it has not seen."""
    if start is not None and tokenizer is not None:
        raise typer.BadParameter("the vocabulary is that of --start", param_hint="--tokenizer")
    if regions is not None and (detector, weights, preset) != (None, None, None):
        raise typer.BadParameter("takes the place of a detector and of its options", param_hint="--regions")

    from matcher.chain import Plan, train_matcher  # late: PyTorch takes seconds, and --help should answer at once

    options = {"weights": _absolute(weights), "preset": preset}
    plan = Plan(
        photos=photos,
        captions=captions,
        out=out,
        start=start,
        tokenizer=None if tokenizer is None else find_vocabulary(tokenizer),
        regions=regions,
        detector=detector,
        detector_options={name: value for name, value in options.items() if value is not None},
        columns=columns,
        recipe=None if config is None else find_recipe(config, "finetune/retrieval"),
        settings=tuple(set_ or ()),
    )
    train_matcher(plan, overwrite=overwrite)


def _absolute(weights: str | None) -> str | None:
    """Returns the weights with the whole path if they are a file: the model records them."""
    return str(Path(weights).resolve()) if weights is not None and Path(weights).exists() else weights


if __name__ == "__main__":
    run(app)
