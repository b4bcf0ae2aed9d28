"""The downstream tasks. To add one, write its file here and name its class in `TASKS` (docs/tasks.md).

May import `finetune.task`, `inputs`, `heads` and `released.tsv`, and `pretrain`, `shards` and `parsers.command`.
Start reading at `refcoco_plus`, which is one file; `finetune.task.Task` says what each method is for.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.task import AnyTask

TASKS: dict[str, str] = {
    "vqa": "finetune.tasks.vqa:Vqa",
    "vcr": "finetune.tasks.vcr:Vcr",
    "retrieval": "finetune.tasks.retrieval.task:Retrieval",
    "refcoco_plus": "finetune.tasks.refcoco_plus:RefcocoPlus",
}
"""The one registry of tasks: where the class of each is. It is imported on demand, because PyTorch takes seconds."""


def import_task(name: str) -> type[AnyTask]:
    """Returns the class of a task.

    Raises:
        KeyError: there is no task of that name.
    """
    found: type[AnyTask] = resolve_name(TASKS[name])
    return found
