"""The arguments and options that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from finetune.tasks import TASKS, import_task

if TYPE_CHECKING:
    from finetune.task import AnyTask

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help=f"The task: {', '.join(TASKS)}.")]
PANEL = "What is read"

DataOption = Annotated[
    Path,
    typer.Option(
        rich_help_panel=PANEL,
        help="Folder of the task's official files or released TSV files; for retrieval also a file of captions in any "
        "format of pipeline.parse.",
    ),
]
SplitOption = Annotated[
    str,
    typer.Option(
        rich_help_panel=PANEL,
        help="An official split, or the name of a file in --data: a released TSV file or, for retrieval, captions.",
    ),
]
RegionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        rich_help_panel=PANEL,
        help="Folder of region features, as pipeline.regions or pipeline.extract writes it; may be repeated.",
    ),
]
GoldRegionsOption = Annotated[
    list[Path] | None,
    typer.Option(rich_help_panel=PANEL, help="Folder of the regions of ground-truth boxes; may be repeated."),
]
AllowMissingImagesOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing-images", rich_help_panel=PANEL, help="Show a blank image where there are no regions."
    ),
]
CocoIdsOption = Annotated[
    bool,
    typer.Option(
        "--coco-ids",
        rich_help_panel=PANEL,
        help="Find the regions of image 42 under COCO's names of pictures: COCO_val2014_000000000042.",
    ),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"], typer.Option(help="Precision to compute in; scores are written as float32.")
]
LocalRankOption = Annotated[int, typer.Option("--local_rank", hidden=True, help="Some launchers pass it; not used.")]


def find_task(name: str) -> type[AnyTask]:
    """Returns the class of the task with this name, one of `finetune.tasks.TASKS`. Its module is imported.

    Raises:
        typer.BadParameter: there is no task of that name. The message lists the names.
    """
    if name not in TASKS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(TASKS)}", param_hint="TASK")
    return import_task(name)
