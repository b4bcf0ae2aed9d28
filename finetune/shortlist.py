"""Trains a cheap score for shortlists: ``python -m finetune.shortlist --checkpoint DIR --data DIR ... --out FILE``.

What a shortlist of each length misses is measured on a split that was not trained on. The score is that of
`finetune.tasks.retrieval.cheap_score`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from finetune.options import Checkpoint, DataFolder, Regions
from parsers.command import console, pluralize, run, say
from shards.schema import Array
from shards.storage.files import sha256_of, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from finetune.task import Split
    from finetune.tasks.retrieval.task import Caption

LENGTHS = (5, 10, 20, 50, 100)
"""Of shortlists, reported after training."""

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m finetune.shortlist --checkpoint runs/flickr30k --data data/flickr30k "
    "--regions data/regions --out runs/flickr30k/shortlist.safetensors"
)
def main(
    checkpoint: Checkpoint,
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="File for the trained score.")],
    regions: Regions = None,
    split: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    dev: Annotated[str, typer.Option(help="The split to measure on.")] = "val",
    steps: Annotated[int, typer.Option(min=2, help="Of the training.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and draws.")] = 0,
    negatives: Annotated[
        Path | None, typer.Option(help="Also write hard negatives of the training images (JSON).")
    ] = None,
    negatives_each: Annotated[int, typer.Option(min=1, help="How many for each image.")] = 50,
) -> None:
    """Train a cheap score for shortlists, and measure what they miss."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from finetune.data import Data
    from finetune.model_folder import fine_tuned_folder, load, load_task
    from finetune.tasks.retrieval.cheap_score import candidates, cheap_scores, hard_negatives, kept, pool, save, train
    from finetune.tasks.retrieval.score_matrix import PairScorer
    from finetune.tasks.retrieval.task import Retrieval, images_of
    from pretrain.model.encoder import WEIGHTS

    folder = fine_tuned_folder(checkpoint)
    task = Retrieval(load_task(folder, Retrieval.name).settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = Data(data, regions or [])
    training, held_out = (files.open(task, [name], folder, device.type) for name in (split, dev))
    model = load(folder, task).to(device)

    def pooled(part: Split[Caption]) -> tuple[Tensor, Tensor, Array]:
        return pool(PairScorer(model, part.sources, device=device), task, part)

    texts, images, own = pooled(training)
    cheap = train(texts, images, own, steps=steps, seed=seed)
    dev_texts, dev_images, dev_own = pooled(held_out)
    scores = cheap_scores(cheap, dev_texts, dev_images)
    table = Table(
        "length",
        "image kept",
        "text kept",
        "pairs",
        title=f"Shortlists on {dev}, {pluralize(len(dev_images), 'image')}",
    )
    found = {}
    for length in (length for length in LENGTHS if length < len(dev_images)):
        found[length] = kept(candidates(scores, length), dev_own)
        table.add_row(str(length), *(f"{100 * value:.2f} %" for value in found[length].values()))
    console.print(table)
    record = {"trained_on": split, "captions": len(texts), "images": len(images), "steps": steps, "seed": seed}
    save(cheap, out, {**record, "model": sha256_of(folder / WEIGHTS), "measured_on": dev, "kept": found})
    say(f"cheap score: {out}")
    if negatives is not None:
        names, _ = images_of(training.examples)
        write_json(hard_negatives(cheap, texts, images, own, names, negatives_each), negatives)
        say(f"hard negatives: {negatives}")


if __name__ == "__main__":
    run(app)
