"""Pretraining: ``deepspeed pretrain/run.py --config configs/pretrain/demo.yaml --shards data/shards/train --out DIR``.

Runs under ``deepspeed``, under ``torchrun`` and as a plain script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pretrain.recipe import Recipe
from shards.console import run
from shards.errors import InputError
from shards.reader import MANIFEST, ShardSet

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: deepspeed --num_gpus 2 pretrain/run.py --config configs/pretrain/demo.yaml "
    "--shards data/shards/train --out runs/a --set steps=300"
)
def main(
    config: Annotated[Path, typer.Option(help="Recipe (YAML).")],
    shards: Annotated[str, typer.Option(help="Shards to train on: a folder, or a URL such as s3://bucket/train.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    held_out: Annotated[
        str | None, typer.Option(help="Shards to evaluate on; default: val beside the folder --shards, if it exists.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
    ] = None,
    init_text_from: Annotated[
        str | None, typer.Option(help="Folder or hub id of a BERT or ERNIE 2.0 for the text stream to start from.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the latest checkpoint in --out.")] = False,
    _local_rank: Annotated[int, typer.Option("--local_rank", hidden=True, help="Given by some launchers.")] = 0,
) -> None:
    """Pretrain ERNIE-ViL on shards."""
    recipe = Recipe.load(config, set_ or [])
    training = ShardSet(shards)
    beside = Path(shards).resolve().parent / "val"
    if held_out is None and (beside / MANIFEST).is_file():
        held_out = str(beside)
    evaluation = None if held_out is None or Path(held_out).resolve() == Path(shards).resolve() else ShardSet(held_out)
    if evaluation is not None and evaluation.manifest.tokenizer != training.manifest.tokenizer:
        raise InputError(f"{shards} and {held_out} were packed with different vocabularies")

    # Imported late: DeepSpeed takes seconds, and a wrong argument should answer at once.
    from pretrain.pretraining import pretrain
    from pretrain.training.world import with_process_group

    with_process_group(lambda: pretrain(recipe, training, evaluation, out, resume=resume, text_from=init_text_from))


if __name__ == "__main__":
    run(app)
