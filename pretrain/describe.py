"""What a model size costs, layer by layer: ``python -m pretrain.model --config base``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pretrain.config import ModelConfig
from pretrain.model import ErnieViL
from shards.console import console
from shards.errors import InputError

SIZES = Path(__file__).resolve().parent.parent / "configs/model"
app: typer.Typer = typer.Typer(add_completion=False)


@dataclass
class Cost:
    """What one module adds to a training step."""

    name: str
    parameters: int
    flops: int = 0
    """multiplications and additions of the forward pass"""
    saved_bytes: int = 0
    """activations kept for the backward pass"""


def costs(config: ModelConfig, *, batch: int, text: int, rows: int, dtype: torch.dtype = torch.float32) -> list[Cost]:
    """The embeddings, layers and poolers of the encoder in the order in which data passes them.

    Nothing is allocated or computed: the pass runs on the meta device. Attention probabilities are counted as saved,
    which a fused kernel avoids.

    Args:
        batch: samples.
        text: text positions of a sample.
        rows: image rows of a sample, the global one included.
        dtype: of parameters and activations.
    """
    with torch.device("meta"):
        model = ErnieViL(config).to(dtype)
        inputs = {
            "token_ids": torch.zeros(batch, text, dtype=torch.long),
            "position_ids": torch.zeros(batch, text, dtype=torch.long),
            "segment_ids": torch.zeros(batch, text, dtype=torch.long),
            "text_mask": torch.ones(batch, text, dtype=torch.bool),
            "features": torch.zeros(batch, rows, config.v_feature_size, dtype=dtype),
            "locations": torch.zeros(batch, rows, 5, dtype=dtype),
            "image_mask": torch.ones(batch, rows, dtype=torch.bool),
        }
    found: list[Cost] = []
    with FlopCounterMode(display=False) as counter, _watched(model, counter, found):
        model(**inputs)
    return found


@contextmanager
def _watched(model: ErnieViL, counter: FlopCounterMode, found: list[Cost]) -> Iterator[None]:
    """Adds a cost for each unit as it is called; what autograd saves meanwhile is that unit's."""
    parameters = {id(parameter) for parameter in model.parameters()}
    seen: set[int] = set()
    kept: list[Tensor] = []  # so that no two saved tensors share an id
    before = 0

    def begin(name: str, unit: nn.Module) -> None:
        nonlocal before
        before = counter.get_total_flops()
        found.append(Cost(name, sum(parameter.numel() for parameter in unit.parameters())))

    def end() -> None:
        found[-1].flops = counter.get_total_flops() - before

    def save(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if found and id(base) not in parameters and id(base) not in seen:
            seen.add(id(base))
            kept.append(base)
            found[-1].saved_bytes += base.numel() * base.element_size()
        return tensor

    handles: list[Any] = []
    for name, unit in _units(model):
        handles.append(unit.register_forward_pre_hook(lambda unit, _inputs, name=name: begin(name, unit)))
        handles.append(unit.register_forward_hook(lambda *_: end()))
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        yield
    for handle in handles:
        handle.remove()


def _units(model: ErnieViL) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{i}", layer) for i, layer in enumerate(child))
        else:
            yield name, child


@app.command(epilog="Example: python -m pretrain.model --config base --batch 16 --text 20 --rows 37")
def main(
    config: Annotated[str, typer.Option(help="tiny, base, large, or a JSON file.")] = "base",
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 16,
    text: Annotated[int, typer.Option(min=1, help="Text positions.")] = 20,
    rows: Annotated[int, typer.Option(min=1, help="Image rows, the global one included.")] = 37,
    bf16: Annotated[bool, typer.Option(help="Activations of two bytes instead of four.")] = False,
) -> None:
    """Print the layers with their parameters, FLOPs of a forward pass and activation memory."""
    named = SIZES / f"{config}.json"
    path = named if named.is_file() else Path(config)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SIZES.glob("*.json")))
        raise InputError(f"{config}: neither a file nor one of {known}")
    dtype = torch.bfloat16 if bf16 else torch.float32
    found = costs(ModelConfig.load(path), batch=batch, text=text, rows=rows, dtype=dtype)
    table = Table("", "parameters", "GFLOP", "saved MB", title=f"{path.name}, {batch} pairs", title_justify="left")
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
