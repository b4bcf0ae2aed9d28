"""The command ``python -m pipeline.toyworld.train_detector --out data/detector.safetensors``.

It trains a small Faster R-CNN from nothing, on pictures that are drawn for it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from parsers.command import pluralize, run, say
from shards.storage.files import write_atomic

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil train-detector --out data/demo/detector.safetensors")
def main(
    out: Annotated[Path, typer.Option(help="The file for the weights, which `pipeline.extract --weights` takes.")],
    steps: Annotated[int, typer.Option(min=1, help="The number of training steps.")] = 400,
    batch_size: Annotated[int, typer.Option(min=2, help="The number of pictures in a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the weights and the pictures.")] = 1,
) -> None:
    """Train a detector on pictures of the toy world."""
    # Imported late, because PyTorch takes seconds and --help should answer at once.
    from safetensors.torch import save

    from pipeline.toyworld.network import CLASS_NAMES
    from pipeline.toyworld.training import train

    started = time.monotonic()
    weights, loss = train(steps, batch_size, seed)
    write_atomic(out, save(weights, {"class_names": json.dumps(CLASS_NAMES)}))
    say(f"{out}: loss {loss:.3f} after {pluralize(steps, 'step')} of {batch_size}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run(app)
