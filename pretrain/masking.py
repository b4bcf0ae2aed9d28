"""What is hidden from the model, and what it must predict there. Pure NumPy.

Scene-graph masking (arXiv 2006.16934, section 3.3): objects, then attributes, then relations are taken. A taken
attribute keeps its object visible, a taken relation both its objects. The rest of the text is masked as in BERT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretrain.recipe import Masking
from shards.schema import KINDS, Array, Masks

WORD = len(KINDS)
"""The kind of a target that belongs to no node; the others are the node kinds."""
MASKED, RANDOM = 0.8, 0.9
"""A taken node or word becomes [MASK] below 0.8, random pieces below 0.9, and else is kept."""
REGION_HIDDEN = 0.9
"""A taken region's features become 0 below 0.9 and else are kept, as in ViLBERT."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the vocabulary."""

    pad: int
    cls: int
    sep: int
    mask: int
    size: int

    @classmethod
    def of(cls, vocabulary: list[str]) -> SpecialTokens:
        """Finds them in a vocabulary."""
        pad, first, sep, mask = (vocabulary.index(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
        return cls(pad, first, sep, mask, len(vocabulary))


@dataclass(frozen=True, slots=True)
class Text:
    """A caption as the model sees it: [CLS], word pieces, [SEP]; and what is to be predicted."""

    token_ids: Array
    """int64 [T]"""
    segment_ids: Array
    """int64 [T]"""
    targets: Array
    """int64 [N]: positions, ascending"""
    labels: Array
    """int64 [N]: the piece that stood there"""
    kinds: Array
    """int64 [N]: kind of the node, or `WORD`"""


def mask_text(
    masks: Masks,
    caption: int,
    *,
    matched: bool,
    max_text: int,
    settings: Masking,
    special: SpecialTokens,
    random: np.random.Generator,
) -> Text:
    """Cuts a caption to ``max_text`` positions and masks it, unless it belongs to another image."""
    pieces, segments = _cut(masks, caption, max_text)
    shown = pieces.copy()
    kinds = np.full(len(pieces), -1, np.int64)
    if matched:
        _mask_nodes(masks, caption, shown, kinds, settings.node, special, random)
        _mask_words(masks, caption, shown, kinds, settings.word, special, random)
    return _text(pieces, segments, shown, kinds, special)


def hide_node(masks: Masks, node: int, *, max_text: int, special: SpecialTokens) -> Text:
    """Cuts the caption of a node to ``max_text`` positions and hides the node, which `maskable` must list, and no more.

    All its pieces become [MASK], and all are targets.
    """
    pieces, segments = _cut(masks, int(masks.node_caption[node]), max_text)
    shown = pieces.copy()
    kinds = np.full(len(pieces), -1, np.int64)
    own = masks.tokens(node)
    shown[own] = special.mask
    kinds[own] = masks.node_kind[node]
    return _text(pieces, segments, shown, kinds, special)


def _cut(masks: Masks, caption: int, max_text: int) -> tuple[Array, Array]:
    """The pieces and segments of a caption that fit between [CLS] and [SEP]."""
    start, end = masks.token_offsets[caption], masks.token_offsets[caption + 1]
    kept = slice(start, min(end, start + max_text - 2))
    return masks.token_ids[kept].astype(np.int64), masks.segment_ids[kept].astype(np.int64)


def _text(pieces: Array, segments: Array, shown: Array, kinds: Array, special: SpecialTokens) -> Text:
    targets = np.flatnonzero(kinds >= 0)
    return Text(
        token_ids=np.concatenate([[special.cls], shown, [special.sep]]),
        segment_ids=np.concatenate([[0], segments, segments[-1:] if len(segments) else [0]]),
        targets=targets + 1,
        labels=pieces[targets],
        kinds=kinds[targets],
    )


def maskable(masks: Masks, caption: int, length: int) -> list[int]:
    """The nodes of a caption that may be hidden if its first ``length`` pieces are shown, ascending.

    They have pieces, all of them shown; so are the pieces of the objects that must stay visible with them, and none of
    these is their own.
    """
    nodes = masks.nodes(caption)
    pieces = {node: masks.tokens(node).tolist() for node in nodes}
    cut = {node for node in nodes if pieces[node] and pieces[node][-1] >= length}
    return [
        node
        for node in nodes
        if pieces[node]
        and node not in cut
        and all(other not in cut and set(pieces[node]).isdisjoint(pieces[other]) for other in _needed(masks, node))
    ]


def _needed(masks: Masks, node: int) -> list[int]:
    """The objects that must stay visible when a node is hidden."""
    return [int(argument) for argument in masks.node_args[node] if argument >= 0]


def _mask_nodes(
    masks: Masks,
    caption: int,
    shown: Array,
    kinds: Array,
    probability: float,
    special: SpecialTokens,
    random: np.random.Generator,
) -> None:
    """Takes nodes and replaces their pieces in ``shown``, noting their kind in ``kinds``."""
    nodes = masks.nodes(caption)
    must_stay = np.zeros(len(shown), bool)
    draws = random.random((len(nodes), 2))
    for node in sorted(maskable(masks, caption, len(shown)), key=lambda node: int(masks.node_kind[node])):
        own = masks.tokens(node)
        needed = [masks.tokens(argument) for argument in _needed(masks, node)]
        take, how = draws[node - nodes.start]
        if take >= probability or must_stay[own].any() or (kinds[own] >= 0).any():
            continue
        if any((kinds[pieces] >= 0).any() for pieces in needed):
            continue
        for pieces in needed:
            must_stay[pieces] = True
        kinds[own] = masks.node_kind[node]
        _replace(shown, own, how, special, random)


def _mask_words(
    masks: Masks,
    caption: int,
    shown: Array,
    kinds: Array,
    probability: float,
    special: SpecialTokens,
    random: np.random.Generator,
) -> None:
    """Takes single pieces that belong to no node."""
    free = np.ones(len(shown), bool)
    for node in masks.nodes(caption):
        own = masks.tokens(node)
        free[own[own < len(shown)]] = False
    draws = random.random((len(shown), 2))
    for position in np.flatnonzero(free & (draws[:, 0] < probability)):
        kinds[position] = WORD
        _replace(shown, np.array([position]), draws[position, 1], special, random)


def _replace(shown: Array, positions: Array, how: float, special: SpecialTokens, random: np.random.Generator) -> None:
    if how < MASKED:
        shown[positions] = special.mask
    elif how < RANDOM:
        shown[positions] = random.integers(0, special.size, len(positions))


def mask_regions(n: int, *, probability: float, random: np.random.Generator) -> tuple[Array, Array]:
    """Which of n regions are to be predicted, and which of these are hidden: two bool arrays [n]."""
    draws = random.random((n, 2))
    taken = draws[:, 0] < probability
    return taken, taken & (draws[:, 1] < REGION_HIDDEN)
