"""Captions with their word pieces and nodes, and what may be hidden of them: the rules, written a second time."""

import numpy as np
from hypothesis import strategies as st

from pretrain.data.masking import SpecialTokens, mask_text
from pretrain.recipe import Masking
from shards.schema import MASK_DTYPES, Masks

SPECIAL = SpecialTokens(pad=0, cls=2, sep=3, mask=4, size=1000)


@st.composite
def captions(draw, mentions=4):
    """One caption with any nodes and segments: nodes may overlap, have no pieces, or share them.

    An object has at most so many mentions.
    """
    segments = draw(st.lists(st.integers(1, 9), max_size=3))
    length = sum(segments)
    spans = st.lists(st.integers(0, max(length - 1, 0)), unique=True, max_size=3 if length else 0).map(sorted)
    named = st.sets(st.integers(0, length - 1), max_size=6).map(sorted) if length else st.just([])
    few = named.map(lambda pieces: [piece for run in runs(pieces)[:mentions] for piece in run])
    objects = draw(st.lists(few, max_size=4))
    kinds, arguments, tokens = [0] * len(objects), [(-1, -1)] * len(objects), list(objects)
    if objects:
        for _ in range(draw(st.integers(0, 3))):
            kinds.append(1)
            arguments.append((draw(st.integers(0, len(objects) - 1)), -1))
            tokens.append(draw(spans))
    if len(objects) > 1:
        for _ in range(draw(st.integers(0, 3))):
            kinds.append(2)
            arguments.append(tuple(draw(st.permutations(range(len(objects))))[:2]))
            tokens.append(draw(spans))
    arrays = {
        "token_ids": np.arange(100, 100 + length),
        "segment_ids": np.repeat(np.arange(len(segments)), segments),
        "token_offsets": np.array([0, length]),
        "node_kind": np.array(kinds),
        "node_caption": np.zeros(len(kinds)),
        "node_args": np.array(arguments).reshape(-1, 2),
        "node_tokens": np.array([t for own in tokens for t in own]),
        "node_token_offsets": np.cumsum([0, *map(len, tokens)]),
    }
    return Masks(**{name: arrays[name].astype(dtype) for name, dtype in MASK_DTYPES.items()})


def mask(masks, seed=0, matched=True, max_text=64, **shares):
    random = np.random.default_rng(seed)
    return mask_text(
        masks, 0, matched=matched, max_text=max_text, settings=Masking(**shares), special=SPECIAL, random=random
    )


def runs(pieces):
    """Runs of neighbours, which are the mentions of an object."""
    found = []
    for piece in pieces:
        if piece - 1 not in pieces:
            found.append([])
        found[-1].append(piece)
    return found


def mentions_of(masks, node, places):
    """What may be hidden of a node: the mentions of an object that are shown whole, all pieces of another node."""
    own = masks.tokens(node).tolist()
    wholes = runs(own) if masks.node_kind[node] == 0 else [own]
    return [whole for whole in wholes if whole and all(places[piece] >= 0 for piece in whole)]


def needed_by(masks, node):
    return [int(a) for a in masks.node_args[node] if a >= 0]


def allowed(masks, places):
    """The nodes that may be hidden, with their mentions, by the rules of the paper: written a second time."""
    found = {}
    for node in range(len(masks.node_kind)):
        mentions, own = mentions_of(masks, node, places), set(masks.tokens(node).tolist())
        objects = needed_by(masks, node)
        seen = all(mentions_of(masks, a, places) or not len(masks.tokens(a)) for a in objects)
        if mentions and seen and all(own.isdisjoint(masks.tokens(a).tolist()) for a in objects):
            found[node] = mentions
    return found


def one_caption(length, kinds, arguments, tokens):
    arrays = {
        "token_ids": np.arange(100, 100 + length),
        "segment_ids": np.zeros(length),
        "token_offsets": [0, length],
        "node_kind": kinds,
        "node_caption": np.zeros(len(kinds)),
        "node_args": arguments,
        "node_tokens": np.concatenate(tokens),
        "node_token_offsets": np.cumsum([0, *map(len, tokens)]),
    }
    return Masks(**{name: np.array(arrays[name]).astype(dtype) for name, dtype in MASK_DTYPES.items()})


class Draws:
    """Random numbers that are given: for the nodes first, then for the pieces."""

    def __init__(self, *draws):
        self.draws = iter(draws)

    def random(self, shape):
        found = np.array(next(self.draws))
        assert found.shape == shape
        return found
