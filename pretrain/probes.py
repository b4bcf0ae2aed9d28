"""Nodes of scene graphs to hide one at a time, and how well a model or a guess says what stood there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parsers.command import InputError, progress
from pretrain.data.masking import SpecialTokens, hide_node, lay_out, maskable
from pretrain.recipe import Masking, ShownImage
from shards.random_numbers import EVALUATION_SEED, generator
from shards.reader import ShardSet
from shards.sample_reader import SampleReader
from shards.schema import KINDS, Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pretrain.evaluation import Model

TOP = (1, 5)
"""The k of ACC@k."""
RESAMPLES = 1000
"""Sets of images that an interval is estimated from."""
_DRAW, _OTHER, _RESAMPLE = range(3)
"""Purposes of random numbers, so that no two of them share a stream."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A node to hide."""

    image: int
    """position of its sample in stored order"""
    node: int
    """its number in the sample"""
    kind: int
    """index into `shards.schema.KINDS`"""
    length: int
    """text positions of its caption, special tokens included"""
    answer: tuple[int, ...]
    """ids of the word pieces that are hidden with it"""


@dataclass(frozen=True)
class Accuracy:
    """How often the answer was among the k most likely ones."""

    nodes: float
    """share of the nodes all of whose pieces are among the k most likely pieces at their place"""
    low: float
    high: float
    """95 % interval of ``nodes``, from images drawn with replacement"""
    pieces: float
    """share of the word pieces, each counted alone, that are among the k most likely ones at their place"""


def find_probes(shards: SampleReader, max_text: int) -> Iterator[Probe]:
    """Yields every node that may be hidden (see `pretrain.data.masking.maskable`), in stored order."""
    special = SpecialTokens.of(shards.vocabulary)
    with progress("find nodes", len(shards), "image") as advance:
        for image, (shard, row) in enumerate(shards):
            masks = shards.masks(shard, row)
            for caption in range(len(masks.token_offsets) - 1):
                layout = lay_out(masks, caption, max_text=max_text, special=special)
                for node, pieces in maskable(masks, caption, layout.places).items():
                    answer = layout.token_ids[layout.places[pieces]]
                    length = len(layout.token_ids)
                    yield Probe(image, node, int(masks.node_kind[node]), length, tuple(answer.tolist()))
            advance(1)


def draw_probes(probes: list[Probe], most: int) -> list[Probe]:
    """Returns at most ``most`` probes of each kind, in their order, and the same ones every time."""
    drawn: list[int] = []
    for kind in range(len(KINDS)):
        numbers = [number for number, probe in enumerate(probes) if probe.kind == kind]
        drawn += generator(EVALUATION_SEED, 0, _DRAW, kind).permutation(np.array(numbers, np.int64))[:most].tolist()
    return [probes[number] for number in sorted(drawn)]


def choose_other_images(n: int) -> Array:
    """Returns another image for each of n images, int64 [n]; n is at least 2. Every image is chosen once."""
    order = generator(EVALUATION_SEED, 0, _OTHER).permutation(n)
    others = np.empty(n, np.int64)
    others[order] = np.roll(order, 1)
    return others


def rank_answers(
    model: Model,
    shards: ShardSet,
    probes: list[Probe],
    images: ShownImage,
    *,
    max_text: int,
    batch_size: int,
    device: torch.device,
) -> list[Array]:
    """Hides each probe and ranks the word pieces that stood there by the model's scores.

    Args:
        model: in evaluation mode, on ``device``.
        shards: what the probes were found in.
        probes: the nodes to hide.
        images: which image each caption is shown with; ``other`` is `choose_other_images` of all images of the shards.
        max_text: positions of a caption with [CLS] and [SEP]; that of `find_probes`.
        batch_size: captions of a batch; they are of similar length.
        device: where to compute.

    Returns:
        For each probe int64 [pieces]: how many pieces of the vocabulary are more likely at the place of its own.

    Raises:
        InputError: the scores of the model are not finite.
    """
    # Imported late, here and below: PyTorch takes seconds, and the help of the command should answer at once.
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
    shown = choose_other_images(len(shards)) if images == "other" else np.arange(len(shards))
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
    """Returns how many pieces come before each label, int64 [N]; of equally likely ones the lower id comes first."""
    import torch

    if not bool(torch.isfinite(logits_NW).all()):
        raise InputError("the scores of the model are not finite: its weights are damaged, or its training diverged")
    own_N1 = logits_NW.gather(1, labels_N[:, None])
    ids_W = torch.arange(logits_NW.shape[1], device=logits_NW.device)
    return ((logits_NW > own_N1) | ((logits_NW == own_N1) & (ids_W < labels_N[:, None]))).sum(1)


def rank_guesses(training: Iterable[Probe], probes: list[Probe], vocabulary: int) -> list[Array]:
    """Ranks answers as `rank_answers` does, but by how frequent a word piece is at its place.

    A place is the kind of a node, its number of word pieces, and which of them is asked for. So the baseline is told
    the node's kind; the model is not.

    Example: where attributes of one piece are "red" five times and "old" twice, the answer "old" has rank 1.

    Args:
        training: nodes to count.
        probes: nodes to rank.
        vocabulary: number of word pieces.
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


def measure_accuracies(probes: list[Probe], ranks: list[Array]) -> dict[str, dict[int, Accuracy]]:
    """Returns the accuracies by kind and by k of `TOP`; kinds without probes are left out."""
    found: dict[str, dict[int, Accuracy]] = {}
    for kind, name in enumerate(KINDS):
        numbers = [number for number, probe in enumerate(probes) if probe.kind == kind]
        if not numbers:
            continue
        images = np.array([probes[number].image for number in numbers])
        worst = np.array([ranks[number].max() for number in numbers])
        pieces = np.concatenate([ranks[number] for number in numbers])
        found[name] = {
            k: Accuracy(float((worst < k).mean()), *estimate_interval(images, worst < k), float((pieces < k).mean()))
            for k in TOP
        }
    return found


def estimate_interval(images: Array, values: Array) -> tuple[float, float]:
    """Estimates the 95 % interval of a mean over nodes by the bootstrap.

    Nodes of one image are not independent, so whole images are drawn with replacement.

    Args:
        images: int64 [nodes], the image of each node.
        values: [nodes], whether each answer is right, or a difference of two such values.

    Returns:
        Both ends of the interval.
    """
    _, image = np.unique(images, return_inverse=True)
    nodes, hits = np.bincount(image), np.bincount(image, weights=values)
    random = generator(EVALUATION_SEED, 0, _RESAMPLE)
    samples = (random.integers(0, len(nodes), len(nodes)) for _ in range(RESAMPLES))
    low, high = np.quantile([hits[sample].sum() / nodes[sample].sum() for sample in samples], [0.025, 0.975])
    return float(low), float(high)
