"""Official scores: ``python -m finetune.evaluate TASK --predictions FILE --data DIR --split NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from finetune.options import DataFolder, SplitName, TaskName, find_task
from parsers.command import console, run
from shards.storage.files import write_json

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m finetune.evaluate vqa --predictions vqa.json --data data/vqa --split val2014")
def main(
    task: TaskName,
    predictions: Annotated[Path, typer.Option(help="What finetune.predict wrote, or anyone's file of that format.")],
    data: DataFolder,
    split: SplitName,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The fine-tuned model: for its classes (released VQA) or its one part (VCR)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the scores (JSON).")] = None,
) -> None:
    """Score predictions as the official evaluator does."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.model_folder import fine_tuned_folder, load_task

    chosen = find_task(task)
    evaluator = chosen(chosen.settings_type()) if checkpoint is None else load_task(fine_tuned_folder(checkpoint), task)
    scores = evaluator.evaluate(evaluator.read_predictions(predictions), evaluator.read(data, split))
    table = Table(title=f"{predictions} on {split}", title_justify="left", show_header=False)
    for name, value in scores.items():
        table.add_row(name, f"{100 * value:.2f} %")
    console.print(table)
    if out is not None:
        write_json(scores, out)


if __name__ == "__main__":
    run(app)
