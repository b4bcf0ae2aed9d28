"""The arguments that the commands share."""

import pytest
import typer
from typer.testing import CliRunner

from finetune.options import DataOption, RegionsOption, TaskArgument, find_task
from finetune.tasks import TASKS


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_by_its_name(name):
    assert find_task(name).name == name


def test_an_unknown_task_is_wrong_usage_and_the_others_are_named():
    with pytest.raises(typer.BadParameter, match="'nlvr2' is none of vqa, vcr, retrieval, refcoco_plus"):
        find_task("nlvr2")


def test_regions_may_be_repeated_and_help_names_the_tasks():
    app, seen = typer.Typer(), []

    @app.command()
    def main(task: TaskArgument, data: DataOption, regions: RegionsOption = None) -> None:
        seen.append((task, data.name, [path.name for path in regions or []]))

    command = ["vqa", "--data", "d", "--regions", "a", "--regions", "b"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert seen == [("vqa", "d", ["a", "b"])]
    assert "refcoco_plus" in " ".join(CliRunner().invoke(app, ["--help"]).output.split())
