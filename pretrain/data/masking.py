"""What is hidden from the model, and what it must predict there. Pure NumPy.

Scene-graph masking (arXiv 2006.16934, section 3.3): objects, then attributes, then relations are taken. A taken
attribute keeps its object visible, a taken relation both its objects. The rest of the text is masked as in BERT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pretrain.data.truncation import truncate_lengths
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


# ------------------------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True, slots=True)
class Layout:
    """A caption in the model's sequence: [CLS], then each of its segments with a [SEP] behind it."""

    token_ids: Array
    """int64 [T]"""
    segment_ids: Array
    """int64 [T]; a [SEP] belongs to the segment before it, [CLS] to the first"""
    places: Array
    """int64 [pieces]: where each stored piece of the caption stands, -1 if it was cut off"""


def lay_out(masks: Masks, caption: int, *, max_text: int, special: SpecialTokens) -> Layout:
    """Cuts a caption to ``max_text`` positions, special tokens among them.

    One segment loses its end. Of several the longest loses its last piece until all fit, of equally long ones the last:
    the rule that the released code has for the two segments of VCR.
    """
    stored = slice(masks.token_offsets[caption], masks.token_offsets[caption + 1])
    pieces = masks.token_ids[stored].astype(np.int64)
    segments = masks.segment_ids[stored].astype(np.int64)
    starts = np.append(0, 1 + np.flatnonzero(np.diff(segments)))
    lengths = np.diff(np.append(starts, len(pieces)))
    starts = starts[: (max_text - 1) // 2]  # each segment that is shown has room for a piece and its [SEP]
    kept = truncate_lengths(lengths[: len(starts)], max_text - 1 - len(starts))

    places = np.full(len(pieces), -1)
    ends = np.cumsum(kept + 1)  # the places of the [SEP]s
    for start, count, end in zip(starts, kept, ends, strict=True):
        places[start : start + count] = np.arange(end - count, end)
    shown = places >= 0
    token_ids = np.full(ends[-1] + 1, special.sep)
    token_ids[0] = special.cls
    token_ids[places[shown]] = pieces[shown]
    names = segments[starts] if len(pieces) else np.zeros(1, np.int64)
    return Layout(token_ids, np.append(names[0], np.repeat(names, kept + 1)), places)


# --------------------------------------------------------------------------------------------------------------- text


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A caption as the model sees it, and what is to be predicted."""

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


@dataclass(frozen=True, slots=True)
class _Taken:
    """A node or a word that is to be predicted."""

    pieces: Array
    kind: int
    how: float
    """below `MASKED`, below `RANDOM`, or above"""


def mask_text(
    masks: Masks,
    caption: int,
    *,
    matched: bool,
    max_text: int,
    settings: Masking,
    special: SpecialTokens,
    random: np.random.Generator,
) -> MaskedText:
    """Cuts a caption to ``max_text`` positions and masks it, unless it belongs to another image."""
    layout = lay_out(masks, caption, max_text=max_text, special=special)
    token_ids, kinds = layout.token_ids.copy(), np.full(len(layout.token_ids), -1)
    if matched:
        # Taken before anything depends on the places, so that random spans are as many as those of the nodes.
        places = layout.places
        node_draws, piece_draws = (random.random((n, 2)) for n in (len(masks.nodes(caption)), len(places)))
        taken, must_stay = _take_nodes(masks, caption, places, settings, node_draws)
        taken += _take_words(masks, caption, (places >= 0) & ~must_stay, settings, piece_draws)
        if settings.spans == "random":
            places = _shuffle_spans(masks, caption, places, random)
        for one in taken:
            own = places[one.pieces]
            kinds[own] = one.kind
            if one.how < MASKED:
                token_ids[own] = special.mask
            elif one.how < RANDOM:
                token_ids[own] = random.integers(0, special.size, len(own))
    return _text(layout, token_ids, kinds)


def hide_node(masks: Masks, node: int, *, max_text: int, special: SpecialTokens) -> MaskedText:
    """Cuts the caption of a node to ``max_text`` positions and hides the node, which `maskable` must list, and no more.

    All its pieces become [MASK], and all are targets.
    """
    layout = lay_out(masks, int(masks.node_caption[node]), max_text=max_text, special=special)
    token_ids, kinds = layout.token_ids.copy(), np.full(len(layout.token_ids), -1)
    own = layout.places[masks.tokens(node)]
    token_ids[own] = special.mask
    kinds[own] = masks.node_kind[node]
    return _text(layout, token_ids, kinds)


def _text(layout: Layout, token_ids: Array, kinds: Array) -> MaskedText:
    targets = np.flatnonzero(kinds >= 0)
    return MaskedText(token_ids, layout.segment_ids, targets, layout.token_ids[targets], kinds[targets])


def maskable(masks: Masks, caption: int, places: Array) -> list[int]:
    """The nodes of a caption that may be hidden if its pieces stand at ``places``, ascending.

    They have pieces, all of them shown; so are the pieces of the objects that must stay visible with them, and none of
    these is their own.
    """
    nodes = masks.nodes(caption)
    pieces = {node: masks.tokens(node).tolist() for node in nodes}
    shown = (places >= 0).tolist()
    cut = {node for node in nodes if not all(shown[piece] for piece in pieces[node])}
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


def _take_nodes(
    masks: Masks, caption: int, places: Array, settings: Masking, draws: Array
) -> tuple[list[_Taken], Array]:
    """Takes objects, then attributes, then relations, as `maskable` allows and what is taken already leaves free.

    Returns the nodes, and bool [pieces]: what must stay visible with them.
    """
    taken = []
    first = masks.nodes(caption).start
    hidden, must_stay = np.zeros(len(places), bool), np.zeros(len(places), bool)
    for node in sorted(maskable(masks, caption, places), key=lambda node: int(masks.node_kind[node])):
        own, kind = masks.tokens(node), int(masks.node_kind[node])
        needed = [masks.tokens(argument) for argument in _needed(masks, node)]
        take, how = draws[node - first]
        if take >= settings.nodes[kind] or must_stay[own].any() or hidden[own].any():
            continue
        if any(hidden[pieces].any() for pieces in needed):
            continue
        for pieces in needed:
            must_stay[pieces] = True
        hidden[own] = True
        taken.append(_Taken(own, kind, how))
    return taken, must_stay


def _take_words(masks: Masks, caption: int, free: Array, settings: Masking, draws: Array) -> Iterator[_Taken]:
    """Takes single pieces, of those that are ``free``, that belong to no node of a kind that is ever taken."""
    free = free.copy()
    for node in masks.nodes(caption):
        if settings.nodes[masks.node_kind[node]] > 0:
            free[masks.tokens(node)] = False
    for piece in np.flatnonzero(free & (draws[:, 0] < settings.word)):
        yield _Taken(np.array([piece]), WORD, draws[piece, 1])


def _shuffle_spans(masks: Masks, caption: int, places: Array, random: np.random.Generator) -> Array:
    """Places as if the caption were its spans in random order: as many and as long, but on other words.

    A span is a run of pieces that some node holds together, or a single piece.
    """
    shown = np.flatnonzero(places >= 0)
    held = np.zeros(len(shown), bool)  # together with the piece before
    for node in masks.nodes(caption):
        own = np.zeros(len(places) + 1, bool)  # the last is before the first
        own[masks.tokens(node)] = True
        held |= own[shown] & own[shown - 1]
    spans = np.split(shown, np.flatnonzero(~held)[1:])
    shuffled = places.copy()
    shuffled[np.concatenate([spans[number] for number in random.permutation(len(spans))])] = places[shown]
    return shuffled


# ------------------------------------------------------------------------------------------------------------ regions


def mask_regions(boxes: Array, *, settings: Masking, random: np.random.Generator) -> tuple[Array, Array]:
    """Which of n regions are to be predicted, and which are hidden: two bool arrays [n].

    What is to be predicted is hidden nine times in ten. With ``settings.overlap``, whatever overlaps a hidden region by
    more is hidden with it, as its features tell what that one shows.
    """
    draws = random.random((len(boxes), 2))
    taken = draws[:, 0] < settings.region
    hidden = taken & (draws[:, 1] < REGION_HIDDEN)
    if settings.overlap is not None:
        hidden |= (intersection_over_union(boxes, boxes[hidden]) > settings.overlap).any(1)
    return taken, hidden


def intersection_over_union(boxes: Array, others: Array) -> Array:
    """float [n, m]: of each of n boxes with each of m others; boxes are x1, y1, x2, y2."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    sides = np.clip(np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - corner, 0, None)
    shared = sides.prod(-1)
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others))
    overlap: Array = shared / (areas[:, None] + other_areas[None] - shared)
    return overlap
