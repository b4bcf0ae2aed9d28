"""The costs of a model size, layer by layer: ``python -m pretrain.model --size base``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.table import Table

from parsers.command import console, run
from pretrain.model.config import ModelConfig

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil costs --size base --batch-size 16 --text 20 --rows 37")
def main(
    size: Annotated[str, typer.Option(help="The size of the model: tiny, base, large, or a JSON file.")] = "base",
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs of a batch.")] = 16,
    text: Annotated[int, typer.Option(min=1, help="Text positions of a pair.")] = 20,
    rows: Annotated[int, typer.Option(min=1, help="Image rows of a pair, the row of the whole image included.")] = 37,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="The precision of the model.")] = "fp32",
) -> None:
    """Print the parameters, FLOPs and memory of each layer of a model."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from pretrain.model.costs import count_costs

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    found = count_costs(ModelConfig.of_size(size), batch=batch_size, text=text, rows=rows, dtype=dtype)
    table = Table("", "parameters", "GFLOP", "saved MB", title=f"{size}, {batch_size} pairs", title_justify="left")
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
