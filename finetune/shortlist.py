"""Trains a cheap score for shortlists: ``python -m finetune.shortlist --model DIR --data DIR ... --out FILE``.

It then measures, on a split that was not trained on, what shortlists of several lengths miss. The score is
`finetune.tasks.retrieval.cheap_score.CheapScore`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from finetune.options import CocoIdsOption, DataOption, RegionsOption
from parsers.checksums import sha256_of
from parsers.command import console, run, say
from pipeline.parse.options import ColumnsOption
from pretrain.options import DeviceOption, ModelOption
from shards.storage.files import write_json
from shards.storage.lock import lock_folder

LENGTHS = (5, 10, 20, 50, 100)
"""The lengths of the shortlists that are measured."""

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil shortlist --model runs/flickr30k --data data/flickr30k "
    "--regions data/regions --out runs/flickr30k/shortlist.safetensors"
)
def main(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="File for the trained score.")],
    regions: RegionsOption = None,
    coco_ids: CocoIdsOption = False,
    columns: ColumnsOption = None,
    split: Annotated[str, typer.Option(help="The split to train on.")] = "train",
    dev: Annotated[str, typer.Option(help="The split to measure on.")] = "val",
    steps: Annotated[int, typer.Option(min=2, help="Steps of the training.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the order and the drawn captions.")] = 0,
    hard_negatives: Annotated[
        Path | None, typer.Option(help="Also write hard negatives of the training images to this file (JSON).")
    ] = None,
    hard_negatives_each: Annotated[int, typer.Option(min=1, help="Number of hard negatives for each image.")] = 50,
    device: DeviceOption = "auto",
) -> None:
    """Train a cheap score for shortlists, and measure what they miss."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.data import TaskFiles
    from finetune.model_folder import find_fine_tuned, load_fine_tuned, load_task
    from finetune.tasks.retrieval.captions import number_images
    from finetune.tasks.retrieval.cheap_score import (
        choose_candidates,
        compute_cheap_scores,
        find_hard_negatives,
        measure_shortlist,
        pool_split,
        save_cheap_score,
        train_cheap_score,
    )
    from finetune.tasks.retrieval.score_matrix import PairScorer
    from finetune.tasks.retrieval.task import Retrieval
    from parsers.device import choose_device
    from pretrain.model.encoder import WEIGHTS

    with lock_folder(out.parent):
        folder = find_fine_tuned(model)
        task, where, files = (
            load_task(folder, Retrieval).with_columns(columns or {}),
            choose_device(device),
            TaskFiles(data, regions or [], coco_ids=coco_ids),
        )
        training, held_out = (files.open(task, [name], folder, where.type) for name in (split, dev))
        network = load_fine_tuned(folder, task, where)
        pooled, pooled_dev = (
            pool_split(PairScorer(network, part.sources, device=where), task, part) for part in (training, held_out)
        )
        cheap = train_cheap_score(pooled, steps=steps, seed=seed)
        scores = compute_cheap_scores(cheap, pooled_dev)
        _, images = scores.shape
        table = Table("length", "image kept", "text kept", "pairs", title=f"Shortlists on {dev}, {images:,} images")
        kept = {}
        for length in (length for length in LENGTHS if length < images):
            kept[length] = measure_shortlist(choose_candidates(scores, length), pooled_dev.own_C)
            table.add_row(str(length), *(f"{100 * share:.2f} %" for share in kept[length].values()))
        console.print(table)
        record = {
            "trained_on": split,
            "captions": len(pooled.texts_C2D),
            "images": len(pooled.images_I2V),
            "steps": steps,
            "seed": seed,
            "model": sha256_of(folder / WEIGHTS),
            "measured_on": dev,
            "kept": kept,
        }
        save_cheap_score(cheap, out, record)
        say(f"cheap score: {out}")
        if hard_negatives is not None:
            names, _ = number_images(training.examples)
            write_json(find_hard_negatives(cheap, pooled, names, hard_negatives_each), hard_negatives)
            say(f"hard negatives: {hard_negatives}")


if __name__ == "__main__":
    run(app)
