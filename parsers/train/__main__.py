"""Trains the neural parser: ``python -m parsers.train --gold train_id.csv --dev-gold dev.csv --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parsers.command import run

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil train-parser --gold factual/train_id.csv --dev-gold factual/dev.csv "
    "--unlabelled captions.txt --pretrained all-mpnet-base-v2 --out parsers/neural/model"
)
def main(
    gold: Annotated[
        list[Path],
        typer.Option(
            help="Captions with gold graphs to learn from: best FACTUAL's CSV with ids, or JSON lines; repeat it for "
            "more files. A file that is named twice counts twice. Rows of another split than train are left out."
        ),
    ],
    dev_gold: Annotated[Path, typer.Option(help="Captions with gold graphs to score the parser on.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    unlabelled: Annotated[
        Path | None, typer.Option(help="Text file of captions without graphs to learn from, one a line.")
    ] = None,
    pretrained: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a pretrained BERT or MPNet to make a teacher of; repeat it for more teachers."),
    ] = None,
    teachers: Annotated[
        Path,
        typer.Option(help="Folder for the teachers and what they say of captions; an earlier run's are used again."),
    ] = Path("teachers"),
    width: Annotated[int, typer.Option(min=8, help="Width of the word vectors and of each LSTM direction.")] = 112,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first weights and of the order of captions.")] = 0,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the networks compute. With auto it is a GPU if there is one."),
    ] = "auto",
) -> None:
    """Train the neural parser.

    A run that was stopped goes on if it is started again.
    """
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from parsers.device import choose_device
    from parsers.train.training import train_parser

    train_parser(gold, dev_gold, out, unlabelled, pretrained or [], teachers, width, seed, choose_device(device))


if __name__ == "__main__":
    run(app)
