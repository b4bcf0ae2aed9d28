"""Fine-tuning: ``deepspeed finetune/run.py TASK --config FILE --model DIR --data DIR --regions DIR --out DIR``.

Runs under ``deepspeed``, under ``torchrun`` and as a plain script.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to a script, Python gives its folder and not the root

from finetune.options import AllowMissingImages, DataFolder, GoldRegions, Regions, TaskName, find_task
from parsers.command import run
from pretrain.options import Settings

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: deepspeed finetune/run.py vqa --config configs/finetune/vqa/base.yaml --model models/base "
    "--data data/vqa --regions data/regions --out runs/vqa"
)
def main(
    task: TaskName,
    config: Annotated[Path, typer.Option(help="Recipe (YAML).")],
    model: Annotated[Path, typer.Option(help="A pretraining run, or a model folder (exported or imported).")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    regions: Regions = None,
    gold_regions: GoldRegions = None,
    allow_missing_images: AllowMissingImages = False,
    set_: Settings = None,
    resume: Annotated[bool, typer.Option(help="Continue from the latest checkpoint in --out.")] = False,
    _local_rank: Annotated[int, typer.Option("--local_rank", hidden=True, help="Given by some launchers.")] = 0,
) -> None:
    """Fine-tune a pretrained model on a downstream task."""
    chosen = find_task(task)
    # Imported late, as DeepSpeed below: PyTorch takes seconds, and --help should answer at once.
    from finetune.data import Data
    from finetune.training.recipe import Recipe

    recipe = Recipe[chosen.settings_type].load(config, set_ or [])  # type: ignore[name-defined]
    files = Data(data, regions or [], gold_regions or [], allow_missing_images)

    # Imported late: DeepSpeed takes seconds, and a wrong argument should answer at once.
    from finetune.training.finetuning import fine_tune
    from pretrain.training.distributed import with_process_group

    def work() -> None:
        fine_tune(chosen(recipe.task), recipe, model, files, out, resume=resume)

    with_process_group(work)


if __name__ == "__main__":
    run(app)
