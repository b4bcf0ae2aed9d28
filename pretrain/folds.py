"""Does a model look at the image? ``python -m pretrain.folds SHARDS --config RECIPE --out runs/folds``.

This is for sets that are too small for one held-out split. Images are divided into folds. For each fold, a model is
trained on all other images and asked for the hidden nodes of the fold's captions (`pretrain.probes`). It is shown their
own image, and then another image of the fold. The result is the difference of the two, node by node, over all folds.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from parsers.command import InputError, console, run
from pretrain.options import ConfigOption, Settings, as_arguments
from pretrain.probes import TOP, estimate_interval, find_probes, rank_answers
from pretrain.recipe import PretrainRecipe, ShownImage
from pretrain.training.settings import find_recipe
from shards.edit.removal import Removal
from shards.edit.rewrite import write_set
from shards.manifest import MANIFEST
from shards.random_numbers import EVALUATION_SEED, generator
from shards.reader import ShardSet
from shards.schema import KINDS, Array
from shards.storage.files import write_indented_json
from shards.storage.lock import lock_folder

SHOWN: tuple[ShownImage, ...] = ("own", "other")
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Difference:
    """ACC@k of one kind of node with its own image and with another one."""

    nodes: int
    own: float
    other: float
    low: float
    """95 % interval of ``own - other``, from images drawn with replacement"""
    high: float


def assign_folds(n: int, folds: int) -> Array:
    """Returns the fold of each of n images, int64 [n]; the sizes of folds differ by at most one."""
    fold: Array = generator(EVALUATION_SEED, 0).permutation(n) % folds
    return fold


def compare(kinds: Array, images: Array, ranks: dict[str, Array]) -> dict[str, dict[int, Difference]]:
    """Returns the differences by kind of node and by k.

    Args:
        kinds: int64 [nodes], the kind of each node.
        images: int64 [nodes], the image of each node.
        ranks: int64 [nodes], with the ``own`` and with the ``other`` image: the rank of the node's worst piece.
    """
    found: dict[str, dict[int, Difference]] = {}
    for kind, name in enumerate(KINDS):
        of_kind = kinds == kind
        if of_kind.any():
            found[name] = {}
            for k in TOP:
                own, other = (ranks[shown][of_kind] < k for shown in SHOWN)
                low, high = estimate_interval(images[of_kind], own.astype(np.int64) - other)
                found[name][k] = Difference(int(of_kind.sum()), float(own.mean()), float(other.mean()), low, high)
    return found


def _write_split(whole: ShardSet, gone: Array, out: Path) -> None:
    """Writes the shards without some images, unless an earlier run has written them.

    Args:
        whole: the shards.
        gone: the keys of the images to leave out, str [n].
        out: the folder of the new set.

    Raises:
        InputError: the earlier run had other shards or another number of folds.
    """
    removal = Removal(images=frozenset(gone.tolist()))
    if not (out / MANIFEST).is_file():
        write_set(out, [(whole, removal)])
    elif ShardSet(out).keys.to_pylist() != [key for key in whole.keys.to_pylist() if key not in removal.images]:
        raise InputError(f"{out} holds other images: it is of other shards or of another --folds; name another --out")


@app.command(epilog="Example: ernie-vil folds data/photos/shards/train --config tiny --out runs/folds")
def main(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of the shards.")],
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="Folder for the folds' shards and runs, and for the results.")],
    folds: Annotated[int, typer.Option(min=2, help="Number of parts that the images are divided into.")] = 5,
    set_: Settings = None,
) -> None:
    """For each fold, train on the other folds and hide nodes of this one; compare own and other images."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from pretrain.model.folder import load_model

    settings, recipe = set_ or [], find_recipe(config, "pretrain")
    max_text = PretrainRecipe.load(recipe, settings).max_text
    whole = ShardSet(shards)
    if len(whole) < 2 * folds:
        raise InputError(f"{shards}: {len(whole)} images are too few for {folds} folds of two or more")
    keys, fold_of = np.array(whole.keys.to_pylist()), assign_folds(len(whole), folds)
    kinds: list[int] = []
    images: list[int] = []
    ranks: dict[str, list[int]] = {shown: [] for shown in SHOWN}
    with lock_folder(out):
        for fold in range(folds):
            folder = out / f"fold-{fold}"
            _write_split(whole, keys[fold_of == fold], folder / "train")
            _write_split(whole, keys[fold_of != fold], folder / "val")
            _train(recipe, settings, folder)
            model, held_out = load_model(folder / "run" / "model"), ShardSet(folder / "val")
            probes = list(find_probes(held_out, max_text))
            kinds += [probe.kind for probe in probes]
            images += [probe.image + fold * len(whole) for probe in probes]
            for shown in SHOWN:
                answers = rank_answers(
                    model, held_out, probes, shown, max_text=max_text, batch_size=64, device=torch.device("cpu")
                )
                ranks[shown] += [int(of_probe.max()) for of_probe in answers]
        results = compare(np.array(kinds), np.array(images), {shown: np.array(of) for shown, of in ranks.items()})
        record = {kind: {f"acc@{k}": asdict(found) for k, found in by_k.items()} for kind, by_k in results.items()}
        write_indented_json(record, out / "folds.json")
    table = Table("kind", "nodes", "", "own image", "other image", "difference, 95 %", title=f"{len(whole)} images")
    for kind, by_k in results.items():
        for k, found in by_k.items():
            spread = f"{100 * (found.own - found.other):+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
            table.add_row(kind, f"{found.nodes:,}", f"ACC@{k}", f"{found.own:.1%}", f"{found.other:.1%}", spread)
    console.print(table)
    console.print(f"written: {out / 'folds.json'}", soft_wrap=True)


def _train(recipe: Path, settings: list[str], folder: Path) -> None:
    """Trains a model on ``folder/train``, or goes on with it.

    Raises:
        InputError: the training has failed.
    """
    command = [sys.executable, "-m", "pretrain.run", "--config", recipe, "--shards", folder / "train", "--resume"]
    command += ["--out", folder / "run", *as_arguments(settings)]
    if subprocess.run(list(map(str, command))).returncode != 0:
        raise InputError(f"{folder / 'run'}: training failed, see above")


if __name__ == "__main__":
    run(app)
