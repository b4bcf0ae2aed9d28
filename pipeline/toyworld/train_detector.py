"""A detector for toy worlds: ``python -m pipeline.toyworld.train_detector --out data/detector.safetensors``.

A small Faster R-CNN, trained from nothing on pictures that are drawn for it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from parsers.command import run, say
from shards.storage.files import write_atomic

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m pipeline.toyworld.train_detector --out data/demo/detector.safetensors")
def main(
    out: Annotated[Path, typer.Option(help="The file for the weights, as `pipeline.extract --weights` takes it.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 400,
    batch_size: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the pictures.")] = 1,
) -> None:
    """Trains the detector of `make demo FROM=pixels`."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from safetensors.torch import save

    from pipeline.toyworld.network import CLASS_NAMES
    from pipeline.toyworld.training import train

    started = time.monotonic()
    weights, loss = train(steps, batch_size, seed)
    write_atomic(out, save(weights, {"class_names": json.dumps(CLASS_NAMES)}))
    say(f"{out}: loss {loss:.3f} after {steps:,} steps of {batch_size}, {time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    run(app)
