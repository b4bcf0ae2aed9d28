"""The downstream tasks, one file each. To add one, write its file and name it here (docs/tasks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.task import Task

TASKS: Mapping[str, str] = {
    "vqa": "finetune.tasks.vqa:Vqa",
    "vcr": "finetune.tasks.vcr:Vcr",
    "retrieval": "finetune.tasks.retrieval.task:Retrieval",
    "refcoco_plus": "finetune.tasks.refcoco_plus:RefcocoPlus",
}
"""Where the class of each task is. It is imported when the task is wanted: PyTorch takes seconds."""


def task_type(name: str) -> type[Task[Any, Any]]:
    """The class of a task.

    Raises:
        KeyError: there is none of that name.
    """
    found: type[Task[Any, Any]] = resolve_name(TASKS[name])
    return found
