"""Imports released ERNIE-ViL checkpoints, and exports models in their format.

``python -m finetune.import_checkpoint RELEASED_DIR --size ernie_vil_config.base.json --out DIR`` makes a model folder
from a Paddle Fluid checkpoint. ``python -m finetune.import_checkpoint DIR --to-paddle --out DIR2`` does the opposite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import console, run
from pretrain.model.config import ModelConfig
from shards.storage.lock import lock_folder
from shards.vocabulary import find_vocabulary

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil import ERNIE-ViL-base/params --size base --tokenizer vocab.txt --out models/base"
)
def main(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A released checkpoint, or a model folder with --to-paddle.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model, or for the exported checkpoint.")],
    size: Annotated[
        str | None,
        typer.Option(help="The size of the model: base, large, or the configuration of the checkpoint (JSON)."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="The vocabulary: a vocab.txt, the folder of a model, or a model of the hub.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Give parameters that the checkpoint lacks random values.")
    ] = False,
    to_paddle: Annotated[
        bool, typer.Option("--to-paddle", help="Export a model folder as a released checkpoint.")
    ] = False,
    combined: Annotated[
        bool, typer.Option("--combined", help="With --to-paddle: write all variables to one file.")
    ] = False,
) -> None:
    """Import a released checkpoint, or export one."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.released.checkpoints import export_released, import_released

    if to_paddle:
        with lock_folder(out):
            count = export_released(source, out, combined=combined)
        console.print(f"{count:,} variables written to {out}", soft_wrap=True)
        return
    if size is None:
        raise typer.BadParameter("needed to import a checkpoint", param_hint="--size")
    vocabulary = None if tokenizer is None else find_vocabulary(tokenizer)
    config = ModelConfig.of_size(size)
    with lock_folder(out):
        record = import_released(source, config, out, vocabulary=vocabulary, allow_missing=allow_missing)
    table = Table(title=str(source), title_justify="left", show_header=False)
    table.add_row("parameters of the encoder", f"{record['parameters']:,}")
    table.add_row("parameters of a task's head", ", ".join(record["head"]) or "none")
    table.add_row("not in the checkpoint (random)", ", ".join(record["untouched"]) or "none")
    table.add_row("skipped (optimiser state)", f"{len(record['skipped']):,}")
    table.add_row("written to", str(out))
    console.print(table)
    if vocabulary is None:
        console.print("no --tokenizer given: the model folder has no vocab.txt", soft_wrap=True)


if __name__ == "__main__":
    run(app)
