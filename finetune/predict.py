"""Predictions of a fine-tuned model: ``python -m finetune.predict TASK --checkpoint DIR --data DIR ... --out FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.options import (
    AllowMissingImages,
    DataFolder,
    GoldRegions,
    Regions,
    SplitName,
    TaskName,
    find_task,
)
from parsers.command import run, say

if TYPE_CHECKING:
    from finetune.task import Prediction

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m finetune.predict vqa --checkpoint runs/vqa --data data/vqa --split test2015 "
    "--regions data/regions --out vqa.json"
)
def main(
    task: TaskName,
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            help="A fine-tuning run, or a fine-tuned model; VCR takes two, where its parts were trained separately."
        ),
    ],
    data: DataFolder,
    split: SplitName,
    out: Annotated[Path, typer.Option(help="File for the predictions, as the benchmark's server takes it.")],
    regions: Regions = None,
    gold_regions: GoldRegions = None,
    allow_missing_images: AllowMissingImages = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a batch.")] = 64,
) -> None:
    """Predict a split with a fine-tuned model."""
    find_task(task)
    if task != "vcr" and len(checkpoint) > 1:
        raise typer.BadParameter("only VCR has parts that several models predict", param_hint="--checkpoint")
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from finetune.data import Data
    from finetune.model_folder import fine_tuned_folder, load, load_task
    from pretrain.training.distributed import DistributedContext

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = Data(data, regions or [], gold_regions or [], allow_missing_images)
    predictions: list[Prediction] = []
    for folder in map(fine_tuned_folder, checkpoint):
        trained = load_task(folder, task)
        examples = files.open(trained, [split], folder, device.type)
        model = load(folder, trained).to(device)
        predictions += trained.infer(model, examples, batch_size=batch_size, world=DistributedContext(0, 1, device))
        say(f"{len(examples.examples):,} predictions of {folder} on {split}")
    trained.write(predictions, out)
    say(f"written to {out}")


if __name__ == "__main__":
    run(app)
