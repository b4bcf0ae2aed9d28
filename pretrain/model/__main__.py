"""What a model size costs, layer by layer: ``python -m pretrain.model --config base``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import InputError, console, pluralize, run
from pretrain.model.config import ModelConfig

SIZES = Path(__file__).resolve().parents[2] / "configs/model"
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pretrain.model --config base --batch 16 --text 20 --rows 37")
def main(
    config: Annotated[str, typer.Option(help="tiny, base, large, or a JSON file.")] = "base",
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 16,
    text: Annotated[int, typer.Option(min=1, help="Text positions.")] = 20,
    rows: Annotated[int, typer.Option(min=1, help="Image rows, the global one included.")] = 37,
    bf16: Annotated[bool, typer.Option(help="Activations of two bytes instead of four.")] = False,
) -> None:
    """Print the layers with their parameters, FLOPs of a forward pass and activation memory."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from pretrain.model.costs import costs

    named = SIZES / f"{config}.json"
    path = named if named.is_file() else Path(config)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SIZES.glob("*.json")))
        raise InputError(f"{config}: neither a file nor one of {known}")
    dtype = torch.bfloat16 if bf16 else torch.float32
    found = costs(ModelConfig.load(path), batch=batch, text=text, rows=rows, dtype=dtype)
    table = Table(
        "", "parameters", "GFLOP", "saved MB", title=f"{path.name}, {pluralize(batch, 'pair')}", title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in found:
        table.add_row(cost.name, f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}", f"{cost.saved_bytes / 1e6:.1f}")
    table.add_section()
    table.add_row(
        "encoder",
        f"{sum(cost.parameters for cost in found):,}",
        f"{sum(cost.flops for cost in found) / 1e9:.2f}",
        f"{sum(cost.saved_bytes for cost in found) / 1e6:.1f}",
    )
    console.print(table)


if __name__ == "__main__":
    run(app)
