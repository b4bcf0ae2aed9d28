"""Retrieval over a whole split: ``python -m finetune.retrieve --checkpoint DIR --data DIR ... --out DIR``.

Also under ``deepspeed --module`` and ``torchrun``: the ranks share the matrix. Stopped at any time and run again,
it goes on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from finetune.options import AllowMissingImages, Checkpoint, DataFolder, Precision, Regions, SplitName
from parsers.command import console, pluralize, run, say
from shards.storage.files import sha256_of, write_json

if TYPE_CHECKING:
    from pretrain.training.distributed import World

THREADS = 1
"""Of a process on a CPU."""
PREDICTIONS, SCORES, RECALLS = "predictions.json", "scores.npy", "recalls.json"

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m finetune.retrieve --checkpoint runs/flickr30k --data data/flickr30k --split test "
    "--regions data/regions --out runs/flickr30k/test"
)
def main(
    checkpoint: Checkpoint,
    data: DataFolder,
    split: SplitName,
    out: Annotated[Path, typer.Option(help="Folder for blocks, scores, ranks and recalls.")],
    regions: Regions = None,
    allow_missing_images: AllowMissingImages = False,
    precision: Precision = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs that are scored at once.")] = 64,
    shortlist: Annotated[
        int | None, typer.Option(min=1, help="Score for each caption only so many images, chosen by a cheap score.")
    ] = None,
    cheap_score: Annotated[Path | None, typer.Option(help="That score: a file of finetune.shortlist.")] = None,
    as_released: Annotated[bool, typer.Option("--as-released", help="Break ties as the released script does.")] = False,
    _local_rank: Annotated[int, typer.Option("--local_rank", hidden=True, help="Given by some launchers.")] = 0,
) -> None:
    """Score every caption of a split with every image, rank them, and say the recalls."""
    if (shortlist is None) != (cheap_score is None):
        raise typer.BadParameter("give --shortlist and --cheap-score together, or neither")
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from finetune.data import Data
    from finetune.model_folder import fine_tuned_folder, load, load_task
    from finetune.tasks.retrieval.cheap_score import candidates, cheap_scores, kept, load_cheap_score, pool
    from finetune.tasks.retrieval.score_matrix import PairScorer
    from finetune.tasks.retrieval.task import Retrieval
    from pretrain.model.encoder import WEIGHTS
    from pretrain.training.distributed import World, with_process_group

    folder = fine_tuned_folder(checkpoint)
    settings = load_task(folder, Retrieval.name).settings
    task = Retrieval(settings.model_copy(update={"as_released": settings.as_released or as_released}))

    def work(world: World) -> None:
        on_cpu = world.device.type == "cpu"
        if on_cpu:
            # Another number adds up in another order, and blocks of several runs and ranks stand side by side.
            torch.set_num_threads(THREADS)
            if world.size == 1 and (cores := len(os.sched_getaffinity(0))) > 1:
                say(f"1 of {cores} cores: `torchrun --nproc-per-node {cores} -m finetune.retrieve …` uses all of them")
        files = Data(data, regions or [], allow_missing_images=allow_missing_images)
        examples = files.open(task, [split], folder, world.device.type)
        model = load(folder, task).to(world.device)
        identity = {
            "model": sha256_of(folder / WEIGHTS),
            "regions": files.checksums(),
            "precision": precision,
            "batch_size": batch_size,
            "threads": THREADS if on_cpu else None,
        }
        chosen, costs = None, {}
        if shortlist is not None and cheap_score is not None:
            scorer = PairScorer(model, examples.sources, device=world.device)
            texts, images, own = pool(scorer, task, examples)
            chosen = candidates(cheap_scores(load_cheap_score(cheap_score, folder), texts, images), shortlist)
            costs = {f"shortlist/{name}": value for name, value in kept(chosen, own).items()}
        matrix = task.matrix(
            model, examples, batch_size=batch_size, device=world.device, precision=precision, candidates=chosen
        )
        scores = matrix.fill(world, out / "blocks", identity)
        if world.rank == 0:
            predictions = task.ranked(examples, scores)
            found = {**task.evaluate(predictions, examples.examples), **costs}
            task.write(predictions, out / PREDICTIONS)
            np.save(out / SCORES, scores)
            write_json(found, out / RECALLS)
            captions, images_scored = scores.shape
            title = f"{folder} on {split}: {pluralize(captions, 'caption')}, {pluralize(images_scored, 'image')}"
            table = Table(title=title, title_justify="left", show_header=False)
            for name, value in found.items():
                table.add_row(name, f"{100 * value:.2f} %")
            console.print(table)
            say(f"written to {out}")

    if "RANK" in os.environ:
        with_process_group(lambda: work(World.current()))
    else:
        work(World(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu")))


if __name__ == "__main__":
    run(app)
