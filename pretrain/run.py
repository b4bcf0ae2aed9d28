"""Pretraining: ``deepspeed pretrain/run.py --config demo --shards data/shards/train --out DIR``.

The script runs under ``deepspeed``, under ``torchrun`` and by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to a script, Python gives its folder and not the root

from parsers.command import InputError, run
from pretrain.options import ConfigOption, Settings
from pretrain.recipe import PretrainRecipe
from pretrain.training.settings import find_recipe
from shards.joined import open_sets
from shards.manifest import MANIFEST
from shards.sample_reader import SampleReader
from shards.storage.downloads import find_weights

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: ernie-vil pretrain --config demo --shards data/shards/train --out runs/a --set steps=300")
def main(
    config: ConfigOption,
    shards: Annotated[
        list[str],
        typer.Option(help="Shards to train on: a folder, or a URL such as s3://bucket/train. May be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Shards to evaluate on. Default: the folder val beside each --shards, where it exists."),
    ] = None,
    set_: Settings = None,
    start: Annotated[
        Path | None, typer.Option(help="A model, or the run that wrote it, whose weights a second stage starts from.")
    ] = None,
    start_text: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a BERT or ERNIE 2.0 whose weights the text stream starts from."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the latest checkpoint in --out.")] = False,
    _local_rank: Annotated[int, typer.Option("--local_rank", hidden=True, help="Given by some launchers.")] = 0,
) -> None:
    """Pretrain ERNIE-ViL on shards."""
    if start is not None and start_text is not None:
        raise typer.BadParameter("give one of --start and --start-text: a model has a text stream, too")
    recipe, training, evaluation = read_inputs(config, shards, held_out, set_, start_text)

    # Imported late: DeepSpeed takes seconds, and a wrong argument should answer at once.
    from pretrain.pretraining import pretrain
    from pretrain.training.distributed import with_process_group

    with_process_group(
        lambda: pretrain(recipe, training, evaluation, out, resume=resume, start=start, text_from=start_text),
        out,
    )


def read_inputs(
    config: str,
    shards: list[str],
    held_out: list[str] | None,
    set_: list[str] | None,
    start_text: str | None,
    **_others: Any,
) -> tuple[PretrainRecipe, SampleReader, SampleReader | None]:
    """Reads the recipe, and opens the shards to train on and to evaluate on. The arguments are options of `main`.

    Raises:
        InputError: the recipe is wrong, the shards cannot be read or do not go together, or there is no text model.
    """
    recipe = PretrainRecipe.load(find_recipe(config, "pretrain"), set_ or [])
    training = open_sets(shards)
    trained = [Path(folder).resolve() for folder in shards]
    if not held_out:
        beside = dict.fromkeys(folder.parent / "val" for folder in trained)
        held_out = [str(folder) for folder in beside if (folder / MANIFEST).is_file()]
    held_out = [folder for folder in held_out if Path(folder).resolve() not in trained]
    evaluation = open_sets(held_out) if held_out else None
    if evaluation is not None and evaluation.tokenizer != training.tokenizer:
        raise InputError(f"{training.location} and {evaluation.location} were packed with different vocabularies")
    if evaluation is not None and evaluation.feature_size != training.feature_size:
        raise InputError(
            f"{evaluation.location} has features of size {evaluation.feature_size}, and {training.location} of size "
            f"{training.feature_size}; hold out shards with regions of the same detector"
        )
    if start_text is not None:
        find_weights(start_text, "--start-text")  # fetched by one process, before all of them start
    return recipe, training, evaluation


if __name__ == "__main__":
    run(app)
