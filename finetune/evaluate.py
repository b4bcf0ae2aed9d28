"""Official scores: ``python -m finetune.evaluate TASK --predictions FILE --data DIR --split NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from finetune.options import DataOption, SplitOption, TaskArgument, find_task
from parsers.command import console, run
from pipeline.parse.options import ColumnsOption
from shards.storage.files import write_json

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil evaluate vqa --predictions vqa.json --data data/vqa --split val2014")
def main(
    task: TaskArgument,
    predictions: Annotated[Path, typer.Option(help="What finetune.predict wrote, or any file of the same format.")],
    data: DataOption,
    split: SplitOption,
    columns: ColumnsOption = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model, or the run that wrote it, for its answers (released VQA files) or its only part (VCR)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the scores (JSON).")] = None,
) -> None:
    """Score predictions as the official evaluator does."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.model_folder import find_fine_tuned, load_task

    chosen = find_task(task)
    if model is None:
        evaluator = chosen(chosen.settings_type())
    else:
        evaluator = load_task(find_fine_tuned(model), chosen)
    evaluator = evaluator.with_columns(columns or {})
    scores = evaluator.evaluate(evaluator.read_predictions(predictions), evaluator.read(data, split))
    print_scores(f"{predictions} on {split}", scores)
    if out is not None:
        write_json(scores, out)


def print_scores(title: str, scores: Mapping[str, float]) -> None:
    """Prints a table of scores between 0 and 1 in per cent."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in scores.items():
        table.add_row(name, f"{100 * value:.2f} %")
    console.print(table)


if __name__ == "__main__":
    run(app)
