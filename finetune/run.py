"""Fine-tuning: ``deepspeed finetune/run.py TASK --config FILE --start DIR --data DIR --regions DIR --out DIR``.

Runs under ``deepspeed``, under ``torchrun`` and as a plain script.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python gives a script its folder, not the root

from finetune.options import (
    AllowMissingImagesOption,
    CocoIdsOption,
    DataOption,
    GoldRegionsOption,
    LocalRankOption,
    RegionsOption,
    TaskArgument,
    find_task,
)
from parsers.command import run
from pipeline.parse.options import ColumnsOption
from pretrain.options import ConfigOption, Settings

if TYPE_CHECKING:
    from finetune.task import AnyTask
    from finetune.training.recipe import FineTuneRecipe
    from pipeline.parse.rows import Columns

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil finetune vqa --config base --start models/base "
    "--data data/vqa --regions data/regions --out runs/vqa"
)
def main(
    task: TaskArgument,
    config: ConfigOption,
    start: Annotated[
        Path, typer.Option(help="A model, or the run that wrote it, whose weights the training starts from.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    regions: RegionsOption = None,
    gold_regions: GoldRegionsOption = None,
    allow_missing_images: AllowMissingImagesOption = False,
    coco_ids: CocoIdsOption = False,
    columns: ColumnsOption = None,
    set_: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the latest checkpoint in --out.")] = False,
    _local_rank: LocalRankOption = 0,
) -> None:
    """Fine-tune a pretrained model on a downstream task."""
    # Imported late, in two steps: PyTorch takes seconds and --help should answer at once; DeepSpeed takes seconds as
    # well and an error in the recipe should be reported at once.
    chosen, recipe = read_inputs(task, config, set_, columns)
    from finetune.data import TaskFiles

    files = TaskFiles(data, regions or [], gold_regions or [], allow_missing_images, coco_ids)

    from finetune.training.finetuning import fine_tune
    from pretrain.training.distributed import with_process_group

    def work() -> None:
        fine_tune(chosen, recipe, start, files, out, resume=resume)

    with_process_group(work, out)


def read_inputs(
    task: str, config: str, set_: list[str] | None, columns: Columns | None, **_others: Any
) -> tuple[AnyTask, FineTuneRecipe]:
    """Reads the recipe and makes the task. The arguments are options of `main`.

    Raises:
        InputError: the recipe is wrong, or a file is missing that it names.
    """
    chosen = find_task(task)
    from finetune.training.recipe import FineTuneRecipe
    from pretrain.training.settings import find_recipe

    recipe = FineTuneRecipe.for_task(chosen.settings_type).load(find_recipe(config, f"finetune/{task}"), set_ or [])
    made = chosen(recipe.task).with_columns(columns or {})
    made.check_files()
    return made, recipe


if __name__ == "__main__":
    run(app)
