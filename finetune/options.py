"""The arguments that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from finetune.tasks import TASKS, task_type

if TYPE_CHECKING:
    from finetune.task import Task

TaskName = Annotated[str, typer.Argument(metavar="TASK", help=", ".join(TASKS))]
DataFolder = Annotated[Path, typer.Option(help="Folder of the official files of the task, or of released TSV files.")]
Regions = Annotated[
    list[Path] | None, typer.Option(help="Region features, as pipeline.regions writes them; may be repeated.")
]
GoldRegions = Annotated[list[Path] | None, typer.Option(help="The same for ground-truth boxes; may be repeated.")]
AllowMissingImages = Annotated[bool, typer.Option(help="Show blank images where there are no regions.")]
Checkpoint = Annotated[Path, typer.Option(help="A fine-tuning run, or a fine-tuned model.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="To compute in; scores are kept as float32.")]
SplitName = Annotated[str, typer.Option(help="Of the official ones, or the name of a released TSV file in --data.")]


def find_task(name: str) -> type[Task[Any, Any]]:
    """Raises typer.BadParameter if there is none of that name."""
    if name not in TASKS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(TASKS)}", param_hint="TASK")
    return task_type(name)
