"""Cloze evaluation: ``python -m pretrain.cloze --checkpoint runs/a --shards data/shards/val``.

One object, attribute or relation of a caption is hidden at a time, and the model says what stood there (the cloze test
of arXiv 2006.16934): before the caption's own image, without an image, and before another image.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from parsers.command import InputError, console, pluralize, progress, run
from pretrain.data.masking import SpecialTokens, hide_node, lay_out, maskable
from pretrain.data.order import EVALUATION_SEED
from pretrain.model.config import ModelConfig
from pretrain.recipe import Images, Masking
from shards.random_numbers import generator
from shards.reader import VOCABULARY, ShardSet, read_vocabulary
from shards.schema import KINDS, Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pretrain.evaluation import Model

GUESS, OWN, NONE, OTHER = "guessing", "own image", "no image", "other image"
COLOURS = {GUESS: "#9ca3af", OWN: "#0891b2", NONE: "#16a34a", OTHER: "#c026d3"}
TOP = (1, 5)
RESAMPLES = 1000
_DRAW, _OTHER, _RESAMPLE = range(3)
"""Purposes of random numbers."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """A node to hide."""

    image: int
    """position of its sample in stored order"""
    node: int
    """its number in the sample"""
    kind: int
    length: int
    """positions of its caption with special tokens"""
    answer: tuple[int, ...]
    """its pieces"""


@dataclass(frozen=True)
class Accuracy:
    """How often the answer was among the k most likely ones."""

    nodes: float
    """share of the nodes all of whose pieces are among the k most likely pieces at their place"""
    low: float
    high: float
    """95 % interval of ``nodes``, from images drawn with replacement"""
    pieces: float
    """share of the single pieces"""


Results = dict[str, dict[str, dict[int, Accuracy]]]
"""Accuracies by kind, by what was shown, and by k."""


def find_probes(shards: ShardSet, max_text: int) -> Iterator[Probe]:
    """Every node that may be hidden (see `pretrain.data.masking.maskable`), in stored order."""
    special = SpecialTokens.of(shards.vocabulary)
    with progress("find nodes", len(shards), "image") as advance:
        for image, (shard, row) in enumerate(shards):
            masks = shards.masks(shard, row)
            for caption in range(len(masks.token_offsets) - 1):
                layout = lay_out(masks, caption, max_text=max_text, special=special)
                for node in maskable(masks, caption, layout.places):
                    answer = layout.token_ids[layout.places[masks.tokens(node)]]
                    length = len(layout.token_ids)
                    yield Probe(image, node, int(masks.node_kind[node]), length, tuple(answer.tolist()))
            advance(1)


def draw(probes: list[Probe], most: int) -> list[Probe]:
    """At most that many probes of each kind, in their order: the same ones every time."""
    drawn: list[int] = []
    for kind in range(len(KINDS)):
        numbers = [number for number, probe in enumerate(probes) if probe.kind == kind]
        drawn += generator(EVALUATION_SEED, 0, _DRAW, kind).permutation(np.array(numbers, np.int64))[:most].tolist()
    return [probes[number] for number in sorted(drawn)]


def other_images(n: int) -> Array:
    """int64 [n]: another image for each of n >= 2. Every image is shown once, none at its own place."""
    order = generator(EVALUATION_SEED, 0, _OTHER).permutation(n)
    others = np.empty(n, np.int64)
    others[order] = np.roll(order, 1)
    return others


def rank_answers(
    model: Model,
    shards: ShardSet,
    probes: list[Probe],
    images: Images,
    *,
    max_text: int,
    batch_size: int,
    device: torch.device,
) -> list[Array]:
    """Hides each probe and ranks the pieces that stood there.

    Args:
        model: in evaluation mode, on ``device``.
        shards: what the probes were found in.
        probes: the nodes to hide.
        images: which image each caption is shown with; ``other`` is `other_images` of all images of the shards.
        max_text: positions of a caption with [CLS] and [SEP]; that of `find_probes`.
        batch_size: captions of a batch; they are of similar length.
        device: where to compute.

    Returns:
        For each probe int64 [pieces]: how many pieces of the vocabulary are more likely at the place of its own.

    Raises:
        InputError: the scores of the model are not finite.
    """
    # Imported late, here and below: PyTorch takes seconds, and --help should answer at once.
    import torch

    from pretrain.data.batches import Collator

    special = SpecialTokens.of(shards.vocabulary)
    collator = Collator(
        shards,
        seed=EVALUATION_SEED,
        max_text=max_text,
        masking=Masking(),
        images="none" if images == "none" else "own",
        device_type=device.type,
    )
    shown = other_images(len(shards)) if images == "other" else np.arange(len(shards))
    order = sorted(range(len(probes)), key=lambda number: probes[number].length)
    ranks: list[Array] = [np.zeros(0, np.int64)] * len(probes)
    with progress(f"cloze, image: {images}", len(probes), "node") as advance, torch.no_grad():
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            own = np.array([probes[number].image for number in numbers])
            texts = [
                hide_node(shards.masks(shard, row), probes[number].node, max_text=max_text, special=special)
                for number, (shard, row) in zip(numbers, shards.places(own).tolist(), strict=True)
            ]
            batch = collator.collate(texts, shards.places(shown[own])).to(device)
            found = _ranks(model(**batch.inputs()).vocabulary_logits.float(), batch.text_labels).cpu().numpy()
            ends = np.cumsum([len(text.targets) for text in texts])
            for number, of_probe in zip(numbers, np.split(found, ends[:-1]), strict=True):
                ranks[number] = of_probe
            advance(len(numbers))
    return ranks


def _ranks(logits_NW: Tensor, labels_N: Tensor) -> Tensor:
    """int64 [N]: the pieces before each label; of equally likely ones the lower id comes first."""
    import torch

    if not bool(torch.isfinite(logits_NW).all()):
        raise InputError("the scores of the model are not finite: its weights are damaged, or its training diverged")
    own_N1 = logits_NW.gather(1, labels_N[:, None])
    ids_W = torch.arange(logits_NW.shape[1], device=logits_NW.device)
    return ((logits_NW > own_N1) | ((logits_NW == own_N1) & (ids_W < labels_N[:, None]))).sum(1)


def rank_guesses(training: Iterable[Probe], probes: list[Probe], vocabulary: int) -> list[Array]:
    """Ranks as of `rank_answers`, of always giving what is most frequent at a place.

    A place is the kind of the node, its number of pieces and which of them it is. The model sees all but the kind.
    """
    counts: dict[tuple[int, int, int], Array] = defaultdict(lambda: np.zeros(vocabulary, np.int64))
    for probe in training:
        for place, piece in zip(_places(probe), probe.answer, strict=True):
            counts[place][piece] += 1
    ranks = {place: np.argsort(np.argsort(-count, kind="stable")) for place, count in counts.items()}
    unseen = np.arange(vocabulary)
    return [
        np.array([ranks.get(place, unseen)[piece] for place, piece in zip(_places(probe), probe.answer, strict=True)])
        for probe in probes
    ]


def _places(probe: Probe) -> list[tuple[int, int, int]]:
    return [(probe.kind, len(probe.answer), number) for number in range(len(probe.answer))]


def accuracies(probes: list[Probe], ranks: list[Array]) -> dict[str, dict[int, Accuracy]]:
    """By kind and by k of `TOP`; kinds without probes are left out."""
    found: dict[str, dict[int, Accuracy]] = {}
    for kind, name in enumerate(KINDS):
        numbers = [number for number, probe in enumerate(probes) if probe.kind == kind]
        if not numbers:
            continue
        images = np.array([probes[number].image for number in numbers])
        worst = np.array([ranks[number].max() for number in numbers])
        pieces = np.concatenate([ranks[number] for number in numbers])
        found[name] = {
            k: Accuracy(float((worst < k).mean()), *interval(images, worst < k), float((pieces < k).mean()))
            for k in TOP
        }
    return found


def interval(images: Array, values: Array) -> tuple[float, float]:
    """95 % interval of the mean over nodes. Nodes of one image are not independent: whole images are drawn.

    Args:
        images: int64 [nodes]: the image of each.
        values: [nodes]: right or wrong, or a difference of two such.
    """
    _, image = np.unique(images, return_inverse=True)
    nodes, hits = np.bincount(image), np.bincount(image, weights=values)
    random = generator(EVALUATION_SEED, 0, _RESAMPLE)
    samples = (random.integers(0, len(nodes), len(nodes)) for _ in range(RESAMPLES))
    low, high = np.quantile([hits[sample].sum() / nodes[sample].sum() for sample in samples], [0.025, 0.975])
    return float(low), float(high)


# ---------------------------------------------------------------------------------------------------------- command


@app.command(
    epilog="Example: python -m pretrain.cloze --checkpoint runs/a --shards data/shards/val "
    "--train data/shards/train --most 5000"
)
def main(
    checkpoint: Annotated[Path, typer.Option(help="Folder of a pretraining run, or of a model with its heads.")],
    shards: Annotated[str, typer.Option(help="Shards to evaluate on: a folder, or a URL such as s3://bucket/val.")],
    train: Annotated[
        str | None, typer.Option(help="Shards whose most frequent answers are the baseline; without, there is none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: cloze in --checkpoint.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Nodes of each kind at most; default: all.")] = None,
    max_text: Annotated[
        int | None, typer.Option(min=3, help="Positions of a caption with [CLS] and [SEP]s; default: as in training.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions of a batch.")] = 64,
) -> None:
    """Hide one object, attribute or relation at a time and see whether the model names it."""
    import torch

    from pretrain.model.encoder import CONFIG
    from pretrain.model.folder import load, model_folder

    folder, held_out = model_folder(checkpoint), ShardSet(shards)
    config = ModelConfig.load(folder / CONFIG)
    _check_fit(folder, config, held_out)
    training = None if train is None else ShardSet(train)
    if training is not None and training.manifest.tokenizer != held_out.manifest.tokenizer:
        raise InputError(f"{train} and {shards} were packed with different vocabularies")
    max_text = min(max_text or config.max_text or 64, config.max_position_embeddings)
    probes = list(find_probes(held_out, max_text))
    if not probes:
        raise InputError(f"{shards}: no caption has a node that can be hidden in {max_text} word pieces")
    found = np.bincount([probe.kind for probe in probes], minlength=len(KINDS)).tolist()
    if most is not None:
        probes = draw(probes, most)

    shown: dict[str, Images] = {OWN: "own", NONE: "none", OTHER: "other"}
    if len(held_out) == 1:
        del shown[OTHER]
        console.print("one image: there is no other to show")
    ranks: dict[str, list[Array]] = {}
    if training is not None:
        ranks[GUESS] = rank_guesses(find_probes(training, max_text), probes, held_out.manifest.tokenizer.size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(folder).to(device)
    for name, images in shown.items():
        ranks[name] = rank_answers(
            model, held_out, probes, images, max_text=max_text, batch_size=batch_size, device=device
        )
    by_shown = {name: accuracies(probes, of_probes) for name, of_probes in ranks.items()}
    results = {kind: {name: by_shown[name][kind] for name in ranks} for kind in by_shown[OWN]}
    probed = np.bincount([probe.kind for probe in probes], minlength=len(KINDS)).tolist()
    record = {
        "model": str(folder),
        "shards": shards,
        "manifest": held_out.manifest.checksum,
        "train": train,
        "max_text": max_text,
        "most": most,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "nodes": {
            kind: {
                "in_shards": getattr(held_out.manifest.totals, kind + "s"),
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
    out = checkpoint / "cloze" if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    _plot(results, out / "cloze.png")
    (out / "cloze.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(_table(results, dict(zip(KINDS, probed, strict=True))))
    console.print(f"written: {out / 'cloze.json'}, {out / 'cloze.png'}", soft_wrap=True)


def _check_fit(folder: Path, config: ModelConfig, shards: ShardSet) -> None:
    """Refuses shards that the model cannot read."""
    if read_vocabulary(folder / VOCABULARY) != shards.vocabulary:
        raise InputError(
            f"{shards.location} was packed with another vocabulary than {folder / VOCABULARY}; "
            f"pack again with --tokenizer {folder / VOCABULARY}"
        )
    if config.v_feature_size != shards.manifest.feature_size:
        raise InputError(
            f"{shards.location} has features of size {shards.manifest.feature_size}, {folder} was trained on "
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
