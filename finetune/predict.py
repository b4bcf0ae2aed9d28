"""Predictions of a fine-tuned model: ``python -m finetune.predict TASK --model DIR --data DIR ... --out FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finetune.options import (
    AllowMissingImagesOption,
    CocoIdsOption,
    DataOption,
    GoldRegionsOption,
    RegionsOption,
    SplitOption,
    TaskArgument,
    find_task,
)
from parsers.command import run, say
from pipeline.parse.options import ColumnsOption
from pretrain.options import DeviceOption

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil predict vqa --model runs/vqa --data data/vqa --split test2015 "
    "--regions data/regions --out vqa.json"
)
def main(
    task: TaskArgument,
    model: Annotated[
        list[Path],
        typer.Option(help="A model, or the run that wrote it. VCR takes two if its parts were trained separately."),
    ],
    data: DataOption,
    split: SplitOption,
    out: Annotated[Path, typer.Option(help="File for the predictions, as the benchmark's server takes it.")],
    regions: RegionsOption = None,
    gold_regions: GoldRegionsOption = None,
    allow_missing_images: AllowMissingImagesOption = False,
    coco_ids: CocoIdsOption = False,
    columns: ColumnsOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a batch.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Predict a split with a fine-tuned model."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    chosen = find_task(task)
    if len(model) > 1 and not chosen.has_parts:
        raise typer.BadParameter(f"{task} has no parts for several models; name one", param_hint="--model")
    from finetune.data import TaskFiles
    from finetune.model_folder import find_fine_tuned, load_fine_tuned, load_task
    from parsers.device import choose_device
    from pretrain.training.distributed import DistributedContext

    world = DistributedContext(0, 1, choose_device(device))
    files = TaskFiles(data, regions or [], gold_regions or [], allow_missing_images, coco_ids)
    predictions = []
    for folder in map(find_fine_tuned, model):
        trained = load_task(folder, chosen).with_columns(columns or {})
        examples = files.open(trained, [split], folder, world.device.type)
        network = load_fine_tuned(folder, trained, world.device)
        predictions += trained.infer(network, examples, batch_size=batch_size, world=world)
        say(f"{len(examples.examples):,} predictions of {folder} on {split}")
    trained.write(predictions, out)
    say(f"written to {out}")


if __name__ == "__main__":
    run(app)
