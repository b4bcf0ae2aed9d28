"""Cloze evaluation: ``python -m pretrain.cloze --model runs/a --held-out data/shards/val``.

One object, attribute or relation of a caption is hidden at a time, and the model says what stood there (the cloze test
of arXiv 2006.16934). It is shown the caption's own image, then no image, then another image.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from parsers.command import InputError, console, pluralize, run
from pretrain.model.config import ModelConfig
from pretrain.options import DeviceOption, ModelOption
from pretrain.probes import (
    TOP,
    Accuracy,
    draw_probes,
    find_probes,
    measure_accuracies,
    rank_answers,
    rank_guesses,
)
from pretrain.recipe import ShownImage
from shards.reader import ShardSet
from shards.schema import KINDS, Array
from shards.storage.files import write_atomic
from shards.vocabulary import VOCABULARY, read_vocabulary

GUESS, OWN, NONE, OTHER = "guessing", "own image", "no image", "other image"
COLOURS = {GUESS: "#9ca3af", OWN: "#0891b2", NONE: "#16a34a", OTHER: "#c026d3"}

Results = dict[str, dict[str, dict[int, Accuracy]]]
"""Accuracies by kind of node, by what was shown, and by k."""

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: ernie-vil cloze --model runs/a --held-out data/shards/val --shards data/shards/train --most 5000"
)
def main(
    model: ModelOption,
    held_out: Annotated[str, typer.Option(help="Shards to evaluate on: a folder, or a URL such as s3://bucket/val.")],
    shards: Annotated[
        str | None,
        typer.Option(
            help="Shards of the training, whose most frequent answers are the baseline; default: no baseline."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: cloze in --model.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Nodes of each kind at most; default: all.")] = None,
    max_text: Annotated[
        int | None, typer.Option(min=3, help="Positions of a caption with [CLS] and [SEP]s; default: as in training.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions of a batch.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Hide one object, attribute or relation at a time and see whether the model names it."""
    # Imported late: PyTorch takes seconds, and --help should answer at once.
    import torch

    from parsers.device import choose_device
    from pretrain.model.encoder import CONFIG
    from pretrain.model.folder import load_model, model_folder

    folder, evaluation = model_folder(model), ShardSet(held_out)
    config = ModelConfig.load(folder / CONFIG)
    _check_fit(folder, config, evaluation)
    training = None if shards is None else ShardSet(shards)
    if training is not None and training.tokenizer != evaluation.tokenizer:
        raise InputError(f"{shards} and {held_out} were packed with different vocabularies")
    max_text = min(max_text or config.max_text or 64, config.max_position_embeddings)
    probes = list(find_probes(evaluation, max_text))
    if not probes:
        raise InputError(f"{held_out}: no caption has a node that can be hidden in {max_text} word pieces")
    found = np.bincount([probe.kind for probe in probes], minlength=len(KINDS)).tolist()
    if most is not None:
        probes = draw_probes(probes, most)

    shown: dict[str, ShownImage] = {OWN: "own", NONE: "none", OTHER: "other"}
    if len(evaluation) == 1:
        del shown[OTHER]
        console.print("one image: there is no other to show")
    ranks: dict[str, list[Array]] = {}
    if training is not None:
        ranks[GUESS] = rank_guesses(find_probes(training, max_text), probes, evaluation.tokenizer.size)
    where = choose_device(device)
    network = load_model(folder).to(where)
    for name, images in shown.items():
        ranks[name] = rank_answers(
            network, evaluation, probes, images, max_text=max_text, batch_size=batch_size, device=where
        )
    by_shown = {name: measure_accuracies(probes, of_probes) for name, of_probes in ranks.items()}
    results = {kind: {name: by_shown[name][kind] for name in ranks} for kind in by_shown[OWN]}
    probed = np.bincount([probe.kind for probe in probes], minlength=len(KINDS)).tolist()
    record = {
        "model": str(folder),
        "held_out": held_out,
        "manifest": evaluation.checksum,
        "shards": shards,
        "max_text": max_text,
        "most": most,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "nodes": {
            kind: {
                "in_shards": getattr(evaluation.totals, kind + "s"),
                "maskable": found[i],
                "probed": probed[i],
            }
            for i, kind in enumerate(KINDS)
        },
        "results": {
            kind: {name: {f"acc@{k}": asdict(value) for k, value in by_k.items()} for name, by_k in by_name.items()}
            for kind, by_name in results.items()
        },
    }
    out = model / "cloze" if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    _plot(results, out / "cloze.png")
    write_atomic(out / "cloze.json", (json.dumps(record, indent=1) + "\n").encode())
    console.print(_table(results, dict(zip(KINDS, probed, strict=True))))
    console.print(f"written: {out / 'cloze.json'}, {out / 'cloze.png'}", soft_wrap=True)


def _check_fit(folder: Path, config: ModelConfig, shards: ShardSet) -> None:
    """Raises InputError if the model cannot read the shards."""
    if read_vocabulary(folder / VOCABULARY) != shards.vocabulary:
        raise InputError(
            f"{shards.location} was packed with another vocabulary than {folder / VOCABULARY}; "
            f"pack again with --tokenizer {folder / VOCABULARY}"
        )
    if config.v_feature_size != shards.feature_size:
        raise InputError(
            f"{shards.location} has features of size {shards.feature_size}, {folder} was trained on "
            f"{config.v_feature_size}; take regions of the same detector"
        )


def _table(results: Results, probed: dict[str, int]) -> Table:
    table = Table("kind", "shown", title="One node hidden", title_justify="left")
    for k in TOP:
        table.add_column(f"ACC@{k}", justify="right")
        table.add_column("95 %", justify="right")
    table.add_column("pieces", justify="right")
    for kind, by_name in results.items():
        table.add_section()
        for number, (name, by_k) in enumerate(by_name.items()):
            first = (kind, pluralize(probed[kind], "node"))[number] if number < 2 else ""
            cells = [
                cell
                for k in TOP
                for cell in (f"{by_k[k].nodes:.1%}", f"{100 * by_k[k].low:.1f}–{100 * by_k[k].high:.1f}")
            ]
            table.add_row(first, name, *cells, f"{by_k[1].pieces:.1%}")
    return table


def _plot(results: Results, path: Path) -> None:
    from matplotlib.figure import Figure  # late: it takes a second

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(TOP), sharey=True)
    names = list(next(iter(results.values())))
    width = 0.8 / len(names)
    for k, axes in zip(TOP, panels, strict=True):
        for number, name in enumerate(names):
            values = [by_name[name][k] for by_name in results.values()]
            heights = [value.nodes for value in values]
            # A share may lie outside its interval by rounding.
            below = [max(0.0, value.nodes - value.low) for value in values]
            above = [max(0.0, value.high - value.nodes) for value in values]
            places = np.arange(len(results)) + (number - (len(names) - 1) / 2) * width
            axes.bar(places, heights, width, yerr=[below, above], capsize=3, color=COLOURS[name], label=name)
        axes.set(title=f"ACC@{k}", xticks=range(len(results)), xticklabels=list(results), ylim=(0, 1))
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("share of the hidden nodes")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(app)
