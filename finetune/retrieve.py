"""Retrieval over a whole split: ``python -m finetune.retrieve --model DIR --data DIR ... --out DIR``.

Also runs under ``deepspeed --module`` and ``torchrun``; the ranks share the work. A run that was stopped goes on when
the same command is run again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from finetune.evaluate import print_scores
from finetune.options import (
    AllowMissingImagesOption,
    CocoIdsOption,
    DataOption,
    LocalRankOption,
    PrecisionOption,
    RegionsOption,
    SplitOption,
)
from parsers.checksums import sha256_of
from parsers.command import run, say
from pipeline.parse.options import ColumnsOption
from pretrain.options import DeviceOption, ModelOption
from shards.storage.files import replace_atomic, write_json
from shards.storage.lock import lock_folder
from shards.storage.scratch import remove_leftovers

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

THREADS = 1
"""Threads of a process on a CPU."""
PREDICTIONS, SCORES, RECALLS = "predictions.json", "scores.npy", "recalls.json"

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil retrieve --model runs/flickr30k --data data/flickr30k --split test "
    "--regions data/regions --out runs/flickr30k/test"
)
def main(
    model: ModelOption,
    data: DataOption,
    split: SplitOption,
    out: Annotated[Path, typer.Option(help="Folder for the blocks, scores, ranks and recalls.")],
    regions: RegionsOption = None,
    allow_missing_images: AllowMissingImagesOption = False,
    coco_ids: CocoIdsOption = False,
    columns: ColumnsOption = None,
    precision: PrecisionOption = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs that are scored at once.")] = 64,
    shortlist: Annotated[
        int | None, typer.Option(min=1, help="Score only this many images for each caption, chosen by --cheap-score.")
    ] = None,
    cheap_score: Annotated[Path | None, typer.Option(help="File of finetune.shortlist.")] = None,
    as_released: Annotated[bool, typer.Option("--as-released", help="Break ties as the released script does.")] = False,
    device: DeviceOption = "auto",
    _local_rank: LocalRankOption = 0,
) -> None:
    """Score every caption of a split with every image, rank them, and compute the recalls."""
    if (shortlist is None) != (cheap_score is None):
        raise typer.BadParameter("give --shortlist and --cheap-score together, or neither")
    if device != "auto" and "RANK" in os.environ:
        raise typer.BadParameter("goes without a launcher, which chooses the devices", param_hint="--device")
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.data import TaskFiles
    from finetune.model_folder import find_fine_tuned, load_fine_tuned, load_task
    from finetune.tasks.retrieval.cheap_score import (
        choose_candidates,
        compute_cheap_scores,
        load_cheap_score,
        measure_shortlist,
        pool_split,
    )
    from finetune.tasks.retrieval.score_matrix import PairScorer
    from finetune.tasks.retrieval.task import Retrieval
    from parsers.device import choose_device
    from pretrain.model.encoder import WEIGHTS
    from pretrain.training.distributed import DistributedContext, with_process_group

    folder = find_fine_tuned(model)
    settings = load_task(folder, Retrieval).settings
    task = Retrieval(settings.model_copy(update={"as_released": settings.as_released or as_released})).with_columns(
        columns or {}
    )
    files = TaskFiles(data, regions or [], allow_missing_images=allow_missing_images, coco_ids=coco_ids)

    def work(world: DistributedContext) -> None:
        on_cpu = world.device.type == "cpu"
        if on_cpu:
            _use_one_thread(world)
        examples = files.open(task, [split], folder, world.device.type)
        network = load_fine_tuned(folder, task, world.device)
        candidates, shares = None, dict[str, float]()
        if shortlist is not None and cheap_score is not None:
            pooled = pool_split(PairScorer(network, examples.sources, device=world.device), task, examples)
            candidates = choose_candidates(
                compute_cheap_scores(load_cheap_score(cheap_score, folder), pooled), shortlist
            )
            shares = measure_shortlist(candidates, pooled.own_C)
        fingerprint = {
            "model": sha256_of(folder / WEIGHTS),
            "regions": files.compute_checksums(),
            "precision": precision,
            "batch_size": batch_size,
            "threads": THREADS if on_cpu else None,
        }
        matrix = task.make_matrix(
            network, examples, batch_size=batch_size, device=world.device, precision=precision, candidates=candidates
        )
        scores = matrix.fill(world, out / "blocks", fingerprint)
        if world.rank > 0:
            return
        predictions = task.rank_captions(examples, scores)
        recalls = task.evaluate(predictions, examples.examples)
        recalls |= {f"shortlist/{name}": share for name, share in shares.items()}
        remove_leftovers(out)
        task.write(predictions, out / PREDICTIONS)
        with replace_atomic(out / SCORES) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, scores)
        write_json(recalls, out / RECALLS)
        captions, images = scores.shape
        print_scores(f"{folder} on {split}: {captions:,} captions, {images:,} images", recalls)
        say(f"written to {out}")

    if "RANK" in os.environ:
        with_process_group(lambda: work(DistributedContext.current()), out)
    else:
        with lock_folder(out):
            work(DistributedContext(0, 1, choose_device(device)))


def _use_one_thread(world: DistributedContext) -> None:
    """Makes all runs and ranks compute with one thread: another number of threads would round differently."""
    import torch

    torch.set_num_threads(THREADS)
    if world.size == 1 and (cores := len(os.sched_getaffinity(0))) > 1:
        say(f"1 of {cores} cores: `torchrun --nproc-per-node {cores} -m finetune.retrieve …` uses all of them")


if __name__ == "__main__":
    run(app)
