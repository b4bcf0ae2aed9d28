"""The downstream tasks, one file each. To add one, write its file and name it here (docs/tasks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.task import Task
from finetune.tasks.refcoco_plus import RefcocoPlus
from finetune.tasks.retrieval import Retrieval
from finetune.tasks.vcr import Vcr
from finetune.tasks.vqa import Vqa

_ALL: tuple[type[Task[Any, Any]], ...] = (Vqa, Vcr, Retrieval, RefcocoPlus)
TASKS: Mapping[str, type[Task[Any, Any]]] = {task.name: task for task in _ALL}
