"""Released ERNIE-ViL checkpoints in and out.

``python -m finetune.import_checkpoint RELEASED_DIR --config ernie_vil_config.base.json --out DIR`` makes a model folder
of a Paddle Fluid checkpoint; ``python -m finetune.import_checkpoint DIR --to-paddle --out DIR2`` goes back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from parsers.command import console, run
from pretrain.model.config import ModelConfig

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m finetune.import_checkpoint ERNIE-ViL-base/params --config configs/model/base.json "
    "--vocab vocab.txt --out models/base"
)
def main(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A released checkpoint, or a model folder of ours.")],
    out: Annotated[Path, typer.Option(help="Folder for the model, or for the released layout.")],
    config: Annotated[Path | None, typer.Option(help="The configuration that the checkpoint came with (JSON).")] = None,
    vocab: Annotated[Path | None, typer.Option(help="The vocabulary that the checkpoint came with.")] = None,
    allow_missing: Annotated[
        bool, typer.Option(help="Leave parameters that the checkpoint lacks as they are.")
    ] = False,
    to_paddle: Annotated[bool, typer.Option(help="Go from a model folder of ours to the released layout.")] = False,
    combined: Annotated[bool, typer.Option(help="With --to-paddle: one file for all variables.")] = False,
) -> None:
    """Import a released checkpoint, or export one."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    from finetune.released.checkpoints import export_released, import_released

    if to_paddle:
        count = export_released(source, out, combined=combined)
        console.print(f"{count:,} variables written to {out}", soft_wrap=True)
        return
    if config is None:
        raise typer.BadParameter("needed to import a checkpoint", param_hint="--config")
    record = import_released(source, ModelConfig.load(config), out, vocabulary=vocab, allow_missing=allow_missing)
    table = Table(title=str(source), title_justify="left", show_header=False)
    table.add_row("parameters of the model", f"{record['parameters']:,}")
    table.add_row("task head", ", ".join(record["head"]) or "none")
    table.add_row("untouched (random)", ", ".join(record["untouched"]) or "none")
    table.add_row("skipped (optimiser state)", f"{len(record['skipped']):,}")
    table.add_row("written to", str(out))
    console.print(table)
    if vocab is None:
        console.print("no --vocab given: the model folder has no vocab.txt", soft_wrap=True)


if __name__ == "__main__":
    run(app)
