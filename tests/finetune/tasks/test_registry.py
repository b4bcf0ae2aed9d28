"""The registry of tasks."""

import pytest

from finetune.task import TaskSettings
from finetune.tasks import TASKS, import_task


def test_the_tasks():
    assert list(TASKS) == ["vqa", "vcr", "retrieval", "refcoco_plus"]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_needs(name):
    task = import_task(name)
    assert task.name == name
    assert issubclass(task.settings_type, TaskSettings)
    assert task.head_type.released, "all four were released"
    assert task.has_parts == (name == "vcr")
    assert (task.released_columns is None) == (name in ("vcr", "retrieval"))


def test_there_is_no_other_task():
    with pytest.raises(KeyError):
        import_task("nlvr2")
