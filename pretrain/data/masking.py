"""Masking: what is hidden from the model, and what it must predict there. Pure NumPy.

Scene-graph masking (arXiv 2006.16934, section 3.3) takes objects, then attributes, then relations. A taken attribute
keeps its object visible, a taken relation both of its objects. The rest of the text is masked as in BERT.

Example: "a red hat on a man" has the pieces a 0, red 1, hat 2, on 3, a 4, man 5, and the nodes hat (object), man
(object), red (attribute of hat) and on (relation of hat and man). Say the random draws would take hat, red and on. The
objects come first, so hat is taken. Red needs a visible hat, so it is not taken; nor is on. Of the words that belong to
no node, 0 and 4, each is taken with the probability ``word``. If hat draws 0.3, the model reads
"[CLS] a red [MASK] on a man [SEP]", and its one target is "hat" at position 3.

A longer caption may mention an object several times. In "a red hat on a man , it is new" the pieces go on with , 6, it
7, is 8, new 9: "it" is one more mention of hat, and new an attribute of hat. If hat is taken and draws 0.3, the model
reads "a red [MASK] on a man , [MASK] is new". With ``mentions: one`` one of the two is hidden, and the number that took
hat says which: it is below the share 0.3, and below 0.15 it stands for "hat", else for "it". In both cases red, on and
new are not taken, because no mention of an object that they need may be hidden. If the text is cut behind "man", "it"
does not count, and hat is taken as above. Nor does a mention count of which only some pieces are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pretrain.data.truncation import truncate_lengths
from pretrain.recipe import Masking
from shards.boxes import intersection_over_union
from shards.schema import KINDS, OBJECT, Array, Masks

WORD = len(KINDS)
"""The kind of a target that belongs to no node. The other kinds are those of nodes."""
MASKED, RANDOM = 0.8, 0.9
"""A taken node or word draws a number in [0, 1). Below 0.8 it becomes [MASK], below 0.9 random pieces."""
REGION_HIDDEN = 0.9
"""A taken region draws a number in [0, 1). Below 0.9 its features become 0, else they stay, as in ViLBERT."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the special tokens in a vocabulary, and its size."""

    pad: int
    cls: int
    sep: int
    mask: int
    size: int

    @classmethod
    def of(cls, vocabulary: list[str]) -> SpecialTokens:
        """Finds the ids in a vocabulary."""
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
    """Lays a caption out in at most ``max_text`` positions, special tokens included.

    Segments that are too long lose their ends, by the rule of `truncate_lengths`. Segments that would not even have
    room for one piece and their [SEP] are left out, the last ones first.

    Example: segments of 9, 4 and 9 pieces and ``max_text=19``. [CLS] and three [SEP]s leave room for 15 pieces, so the
    segments keep 6, 4 and 5.
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
    """A caption as the model sees it, and its targets."""

    token_ids: Array
    """int64 [T]"""
    segment_ids: Array
    """int64 [T]"""
    targets: Array
    """int64 [N]: positions to predict, ascending"""
    labels: Array
    """int64 [N]: the piece that stood there"""
    kinds: Array
    """int64 [N]: kind of the node, or `WORD`"""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A node or a word that the model is to predict."""

    pieces: Array
    kind: int
    how: float
    """the number that it has drawn; see `MASKED` and `RANDOM`"""


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


def ask_words(
    masks: Masks, caption: int, changed: Array, *, max_text: int, special: SpecialTokens
) -> tuple[Array, Array]:
    """Returns at which words of a caption to ask whether they are false, and the answers.

    It is asked at the pieces of all nodes, and at those of words that were changed.

    Example: of "a blue hat on a man", once "a red hat on a man", blue, hat, on and man are asked about. They are at
    positions 2, 3, 4 and 6 behind [CLS], and the answers are 1, 0, 0 and 0.

    Args:
        masks: of the sample's captions, or of its false captions.
        caption: the number of the caption among them.
        changed: bool [pieces], which pieces were changed.
        max_text: positions that the caption is cut to.
        special: the special tokens.

    Returns:
        int64 [L], positions, ascending, and float32 [L], 1 for a false word.
    """
    places = lay_out(masks, caption, max_text=max_text, special=special).places
    asked = changed.copy()
    for node in masks.nodes(caption):
        asked[masks.tokens(node)] = True
    asked &= places >= 0
    return places[asked], changed[asked].astype(np.float32)


def hide_node(masks: Masks, node: int, *, max_text: int, special: SpecialTokens) -> MaskedText:
    """Cuts the caption of a node to ``max_text`` positions and hides the node alone, which `maskable` must list.

    All pieces that `maskable` lists with the node become [MASK], and all are targets.
    """
    caption = int(masks.node_caption[node])
    layout = lay_out(masks, caption, max_text=max_text, special=special)
    token_ids, kinds = layout.token_ids.copy(), np.full(len(layout.token_ids), -1)
    own = layout.places[maskable(masks, caption, layout.places)[node]]
    token_ids[own] = special.mask
    kinds[own] = masks.node_kind[node]
    return _text(layout, token_ids, kinds)


def _text(layout: Layout, token_ids: Array, kinds: Array) -> MaskedText:
    targets = np.flatnonzero(kinds >= 0)
    return MaskedText(token_ids, layout.segment_ids, targets, layout.token_ids[targets], kinds[targets])


def maskable(masks: Masks, caption: int, places: Array) -> dict[int, list[int]]:
    """Returns the nodes of a caption that may be hidden if its pieces stand at ``places``, ascending.

    Each comes with the pieces that are hidden with it: of an object those of all mentions that are shown whole, of an
    attribute or a relation all, if they are shown. A node may be hidden if there are any, if each object that must stay
    visible with it has a mention that is shown whole, too, and if it shares no piece with these objects.
    """
    nodes = masks.nodes(caption)
    pieces = {node: masks.tokens(node).tolist() for node in nodes}
    is_shown = (places >= 0).tolist()
    shown = {
        node: own if all(is_shown[piece] for piece in own) else list(chain(*_find_shown_mentions(masks, node, places)))
        for node, own in pieces.items()
    }
    return {
        node: shown[node]
        for node in nodes
        if shown[node]
        and all(
            (shown[other] or not pieces[other]) and set(pieces[node]).isdisjoint(pieces[other])
            for other in _needed(masks, node)
        )
    }


def _find_shown_mentions(masks: Masks, node: int, places: Array) -> list[list[int]]:
    """Returns the pieces of each mention of an object that is shown whole; nodes of other kinds have no mentions."""
    runs = masks.runs(node) if masks.node_kind[node] == OBJECT else []
    return [run for run in runs if (places[run] >= 0).all()]


def _needed(masks: Masks, node: int) -> list[int]:
    """Returns the objects that must stay visible when a node is hidden."""
    return [int(argument) for argument in masks.node_args[node] if argument >= 0]


def _take_nodes(
    masks: Masks, caption: int, places: Array, settings: Masking, draws: Array
) -> tuple[list[_Taken], Array]:
    """Takes objects, then attributes, then relations.

    A node is taken if `maskable` allows it, its draw is below the share of its kind, and neither the node nor the
    objects that it needs conflict with what is taken already.

    Returns:
        The nodes, and bool [pieces], the pieces that must stay visible with them.
    """
    taken = []
    first = masks.nodes(caption).start
    hidden, must_stay = np.zeros(len(places), bool), np.zeros(len(places), bool)
    for node, own in sorted(maskable(masks, caption, places).items(), key=lambda item: int(masks.node_kind[item[0]])):
        kind = int(masks.node_kind[node])
        needed = [masks.tokens(argument) for argument in _needed(masks, node)]
        take, how = draws[node - first]
        if take >= settings.nodes[kind]:
            continue
        if kind == OBJECT and settings.mentions == "one":
            # The draw is a number below the share, so its part of the share is as random as a new one.
            mentions = _find_shown_mentions(masks, node, places)
            own = mentions[int(take / settings.nodes[kind] * len(mentions))]
        if must_stay[own].any() or hidden[own].any():
            continue
        if any(hidden[pieces].any() for pieces in needed):
            continue
        for pieces in needed:
            must_stay[pieces] = True
        hidden[own] = True
        taken.append(_Taken(np.array(own), kind, how))
    return taken, must_stay


def _take_words(masks: Masks, caption: int, free: Array, settings: Masking, draws: Array) -> Iterator[_Taken]:
    """Takes single pieces that are ``free`` and belong to no node of a kind that is ever taken."""
    free = free.copy()
    for node in masks.nodes(caption):
        if settings.nodes[masks.node_kind[node]] > 0:
            free[masks.tokens(node)] = False
    for piece in np.flatnonzero(free & (draws[:, 0] < settings.word)):
        yield _Taken(np.array([piece]), WORD, draws[piece, 1])


def _shuffle_spans(masks: Masks, caption: int, places: Array, random: np.random.Generator) -> Array:
    """Returns places as if the spans of the caption stood in random order.

    So as many spans are hidden, of the same lengths, but they lie on other words. A span is a run of pieces that some
    node holds together, or a single piece.
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
    """Returns which of n regions are to be predicted, and which are hidden: two bool arrays [n].

    A region to predict is hidden nine times in ten. With ``settings.overlap``, each region that overlaps a hidden one
    by a higher intersection over union is hidden, too, because its features tell what the hidden one shows.

    Example: regions A and B overlap by 0.5, C lies apart, and ``overlap`` is 0.4. If A alone is taken and draws 0.2, A
    is to be predicted, and A and B are hidden. If A draws 0.95, A is to be predicted, and nothing is hidden.
    """
    draws = random.random((len(boxes), 2))
    taken = draws[:, 0] < settings.region
    hidden = taken & (draws[:, 1] < REGION_HIDDEN)
    if settings.overlap is not None:
        hidden |= (intersection_over_union(boxes, boxes[hidden]) > settings.overlap).any(1)
    return taken, hidden
