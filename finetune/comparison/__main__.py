"""Compares models by their downstream tasks.

``python -m finetune.comparison --world DIR --regions DIR --gold-regions DIR --start NAME=FOLDER --out DIR`` runs
everything in one process. A run that is complete is kept, so the same command goes on after a stop. The scores are
those of the test splits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finetune.tasks import TASKS
from parsers.command import InputError, run

UNTRAINED = "no pretraining"

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil compare --world data/demo/tasks --regions data/demo/task-regions "
    "--gold-regions data/demo/task-gold-regions --start pretrained=runs/demo --untrained --out runs/demo/tasks"
)
def main(
    world: Annotated[Path, typer.Option(help="A toy world made with --tasks.")],
    regions: Annotated[Path, typer.Option(help="The world's regions, imported with pipeline.regions.")],
    gold_regions: Annotated[Path, typer.Option(help="The world's tasks/vcr/regions, imported with pipeline.regions.")],
    start: Annotated[
        list[str],
        typer.Option(metavar="NAME=FOLDER", help="A pretrained model; repeat a name to give a model for each seed."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the runs and tables.")],
    untrained: Annotated[bool, typer.Option("--untrained", help="Also start from random weights.")] = False,
    task: Annotated[list[str] | None, typer.Option(help="Compare only this task; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of fine-tuning runs from each model.")] = 1,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(help="Choose among these for each task and model, on the val split; may be repeated."),
    ] = None,
) -> None:
    """Fine-tune the toy world's tasks from several models and compare their scores with chance."""
    given = [(name, folder) for name, equals, folder in (pair.partition("=") for pair in start) if equals]
    if len(given) < len(start):
        raise typer.BadParameter("a model is given as NAME=FOLDER", param_hint="--start")
    for name in task or ():
        if name not in TASKS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(TASKS)}", param_hint="--task")
    if not (world / "tasks").is_dir():
        raise InputError(f"{world}: has no tasks; make the world with --tasks")
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.comparison.report import write_comparison
    from finetune.comparison.runs import COMPARED, Comparison, compare_runs, write_untrained
    from pretrain.model.folder import model_folder
    from pretrain.training.distributed import with_process_group

    starts: dict[str, list[Path]] = {}
    for name, folder in given:
        starts.setdefault(name, []).append(model_folder(Path(folder)))
    comparison = Comparison(world, regions, gold_regions, out)

    def work() -> None:
        if untrained:
            like = next(iter(starts.values()))[0]
            starts[UNTRAINED] = [write_untrained(like, out / f"untrained-{seed}", seed) for seed in range(seeds)]
        results, rates = {}, {}
        for name in task or COMPARED:
            results[name], rates[name] = compare_runs(comparison, starts, name, seeds=seeds, rates=learning_rate or [])
        write_comparison(results, rates, list(starts), out)

    with_process_group(work, out)


if __name__ == "__main__":
    run(app)
