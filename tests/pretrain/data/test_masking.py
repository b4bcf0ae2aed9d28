import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.masking import (
    WORD,
    SpecialTokens,
    lay_out,
    mask_regions,
    mask_text,
    maskable,
)
from pretrain.recipe import Masking
from shards.schema import KINDS, MASK_DTYPES, Masks

SPECIAL = SpecialTokens(pad=0, cls=2, sep=3, mask=4, size=1000)


@st.composite
def captions(draw):
    """One caption with any nodes and segments: nodes may overlap, have no pieces, or share them."""
    segments = draw(st.lists(st.integers(1, 9), max_size=3))
    length = sum(segments)
    spans = st.lists(st.integers(0, max(length - 1, 0)), unique=True, max_size=3 if length else 0).map(sorted)
    objects = draw(st.lists(spans, max_size=4))
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


def allowed(masks, places):
    """The nodes that may be hidden, by the rules of the paper: written a second time, piece by piece."""
    found = set()
    for node in range(len(masks.node_kind)):
        own = masks.tokens(node).tolist()
        needed = [p for a in masks.node_args[node] if a >= 0 for p in masks.tokens(a).tolist()]
        if own and all(places[p] >= 0 for p in own + needed) and not set(own) & set(needed):
            found.add(node)
    return found


@settings(max_examples=150, deadline=None)
@given(captions(), st.integers(3, 40))
def test_each_segment_ends_with_its_own_sep_and_the_longest_are_cut(masks, max_text):
    layout = lay_out(masks, 0, max_text=max_text, special=SPECIAL)
    assert len(layout.token_ids) == len(layout.segment_ids) <= max_text
    assert layout.token_ids[0] == SPECIAL.cls
    shown = layout.places >= 0
    assert (layout.token_ids[layout.places[shown]] == masks.token_ids[shown]).all()
    assert (layout.segment_ids[layout.places[shown]] == masks.segment_ids[shown]).all()
    assert (np.diff(layout.places[shown]) > 0).all()
    ends = np.flatnonzero(layout.token_ids == SPECIAL.sep)
    lengths = np.diff(ends, prepend=0) - 1
    whole = np.bincount(masks.segment_ids) if len(masks.segment_ids) else np.zeros(1, int)
    assert layout.segment_ids[ends].tolist() == list(range(len(ends)))
    assert len(layout.token_ids) == 1 + len(ends) + shown.sum()
    if len(ends) == len(whole) and (lengths < whole).any():
        assert len(layout.token_ids) == max_text, "nothing is cut without need"
        # No segment that was cut is shorter than any other, but for the piece that was cut last.
        assert lengths[lengths < whole].min() >= lengths.max() - 1
    for segment, length in enumerate(lengths):
        assert shown[masks.segment_ids == segment].tolist() == [i < length for i in range(whole[segment])]


@settings(max_examples=150, deadline=None)
@given(captions(), st.integers(0, 2**32), st.integers(3, 40), st.floats(0.2, 1))
def test_the_rules_of_scene_graph_masking_hold(masks, seed, max_text, share):
    text = mask(masks, seed, max_text=max_text, object=share, attribute=share, relation=share, word=share)
    layout = lay_out(masks, 0, max_text=max_text, special=SPECIAL)
    assert (text.labels == layout.token_ids[text.targets]).all()
    assert set(text.targets.tolist()) <= set(layout.places[layout.places >= 0].tolist())
    untouched = np.setdiff1d(np.arange(len(layout.token_ids)), text.targets)
    assert (text.token_ids[untouched] == layout.token_ids[untouched]).all()
    assert set(maskable(masks, 0, layout.places)) == allowed(masks, layout.places)

    kind_at = dict(zip(text.targets.tolist(), text.kinds.tolist(), strict=True))
    hidden = {piece: kind_at[place] for piece, place in enumerate(layout.places.tolist()) if place in kind_at}
    of_nodes = set(masks.node_tokens.tolist())
    assert {p for p, kind in hidden.items() if kind == WORD}.isdisjoint(of_nodes)
    explained = set()
    for node in allowed(masks, layout.places):
        own, kind = masks.tokens(node).tolist(), masks.node_kind[node]
        needed = [p for a in masks.node_args[node] if a >= 0 for p in masks.tokens(a)]
        if all(hidden.get(p) == kind for p in own) and not any(p in hidden for p in needed):
            explained.update(own)
    # Every hidden piece of a node lies in a node that is hidden whole, while what it needs is there and visible.
    assert {p for p, kind in hidden.items() if kind != WORD} == explained


@settings(max_examples=100, deadline=None)
@given(
    captions(), st.integers(0, 2**32), st.integers(3, 40), st.sets(st.sampled_from(["object", "attribute", "relation"]))
)
def test_words_are_all_pieces_that_belong_to_no_node_of_a_kind_that_is_taken(masks, seed, max_text, off):
    shares = {"object": 1e-9, "attribute": 1e-9, "relation": 1e-9, "word": 1} | dict.fromkeys(off, 0)
    text = mask(masks, seed, max_text=max_text, **shares)
    places = lay_out(masks, 0, max_text=max_text, special=SPECIAL).places
    taken = [node for node in range(len(masks.node_kind)) if KINDS[masks.node_kind[node]] not in off]
    free = set(range(len(places))) - {p for node in taken for p in masks.tokens(node).tolist()}
    assert text.targets.tolist() == [places[p] for p in sorted(free) if places[p] >= 0]
    assert (text.kinds == WORD).all()


@settings(max_examples=150, deadline=None)
@given(captions(), st.integers(0, 2**32), st.sampled_from(["attribute", "relation"]))
def test_objects_stay_visible_with_what_is_taken_also_where_they_are_never_taken(masks, seed, kind):
    text = mask(masks, seed, **({"object": 0, "attribute": 0, "relation": 0} | {kind: 0.5}), word=1)
    places = lay_out(masks, 0, max_text=64, special=SPECIAL).places
    kind_at = dict(zip(text.targets.tolist(), text.kinds.tolist(), strict=True))
    for node in np.flatnonzero(masks.node_kind == KINDS.index(kind)).tolist():
        own = [kind_at.get(place) for place in places[masks.tokens(node)].tolist()]
        if KINDS.index(kind) in own and len(set(masks.node_tokens.tolist())) == len(masks.node_tokens):
            needed = [p for a in masks.node_args[node] if a >= 0 for p in masks.tokens(a)]
            assert not set(places[needed].tolist()) & set(text.targets.tolist())


@settings(max_examples=150, deadline=None)
@given(captions(), st.integers(0, 2**32), st.integers(3, 40), st.floats(0.2, 1))
def test_random_spans_are_as_many_and_as_long_as_those_of_the_nodes(masks, seed, max_text, share):
    shares = {"object": share, "attribute": share, "relation": share, "word": share}
    nodes, spans = (mask(masks, seed, max_text=max_text, **shares, spans=kind) for kind in ("nodes", "random"))
    assert sorted(spans.kinds.tolist()) == sorted(nodes.kinds.tolist())
    layout = lay_out(masks, 0, max_text=max_text, special=SPECIAL)
    assert (spans.labels == layout.token_ids[spans.targets]).all()
    assert set(spans.targets.tolist()) <= set(layout.places.tolist())


def test_random_spans_lie_anywhere_in_one_piece():
    found = np.zeros(10)
    for seed in range(3000):
        text = mask(one_object(3), seed, object=1, word=0, spans="random")
        assert (np.diff(text.targets) == 1).all()
        found[text.targets - 1] += 1
    # The span of three stands before, between or behind the seven other pieces: eight places.
    assert np.abs(found / 3000 - np.array([1, 2, 3, 3, 3, 3, 3, 3, 2, 1]) / 8).max() < 0.04


@given(captions(), st.integers(0, 99))
def test_a_caption_of_another_image_is_not_masked(masks, seed):
    text = mask(masks, seed, matched=False, object=1, word=1)
    assert len(text.targets) == 0
    assert text.token_ids.tolist() == lay_out(masks, 0, max_text=64, special=SPECIAL).token_ids.tolist()


def one_object(length=1):
    arrays = {
        "token_ids": np.arange(100, 110),
        "segment_ids": np.zeros(10),
        "token_offsets": np.array([0, 10]),
        "node_kind": np.array([0]),
        "node_caption": np.array([0]),
        "node_args": np.array([[-1, -1]]),
        "node_tokens": np.arange(length),
        "node_token_offsets": np.array([0, length]),
    }
    return Masks(**{name: arrays[name].astype(dtype) for name, dtype in MASK_DTYPES.items()})


def test_the_shares_are_those_of_the_recipe():
    taken = hidden = random = words = 0
    for seed in range(4000):
        text = mask(one_object(3), seed)
        mine = text.kinds == 0
        words += int((text.kinds == WORD).sum())
        if mine.any():
            assert mine.sum() == 3, "the node's whole span"
            taken += 1
            shown = text.token_ids[1:4]
            hidden += bool((shown == SPECIAL.mask).all())
            random += bool((shown != SPECIAL.mask).any() and (shown != [100, 101, 102]).any())
    assert abs(taken / 4000 - 0.3) < 0.03
    assert abs(hidden / taken - 0.8) < 0.04
    assert abs(random / taken - 0.1) < 0.03
    assert abs(words / (4000 * 7) - 0.15) < 0.01


def test_the_shares_of_regions():
    random = np.random.default_rng(0)
    taken, hidden = mask_regions(np.zeros((100_000, 4)), settings=Masking(), random=random)
    assert abs(taken.mean() - 0.15) < 0.005
    assert abs(hidden.sum() / taken.sum() - 0.9) < 0.01
    assert not (hidden & ~taken).any()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32), st.floats(0.05, 0.9))
def test_nothing_that_shows_a_hidden_region_is_left_visible(n, seed, overlap):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 5, (n, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 9, (n, 2))], axis=1).astype(np.float32)
    plain, wide = (
        mask_regions(boxes, settings=Masking(region=0.4, overlap=limit), random=np.random.default_rng(seed))
        for limit in (None, overlap)
    )
    assert (wide[0] == plain[0]).all(), "what is to be predicted stays the same"
    for region in range(n):
        x1, y1, x2, y2 = boxes[region].tolist()
        wanted = False
        for a1, b1, a2, b2 in boxes[plain[1]].tolist():
            shared = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            wanted |= shared / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared) > overlap
        assert wide[1][region] == (wanted or plain[1][region])


class Draws:
    """Random numbers that are given: for the nodes first, then for the pieces."""

    def __init__(self, *draws):
        self.draws = iter(draws)

    def random(self, shape):
        found = np.array(next(self.draws))
        assert found.shape == shape
        return found


def test_the_example_of_the_docstring():
    """a red hat on a man"""
    arrays = {
        "token_ids": np.arange(10, 16),
        "segment_ids": np.zeros(6),
        "token_offsets": [0, 6],
        "node_kind": [0, 0, 1, 2],
        "node_caption": np.zeros(4),
        "node_args": [(-1, -1), (-1, -1), (0, -1), (0, 1)],
        "node_tokens": [2, 5, 1, 3],
        "node_token_offsets": range(5),
    }
    masks = Masks(**{name: np.array(arrays[name]).astype(dtype) for name, dtype in MASK_DTYPES.items()})
    draws = Draws([(0.0, 0.3), (0.9, 0.3), (0.0, 0.3), (0.0, 0.3)], np.full((6, 2), 0.9))
    text = mask_text(masks, 0, matched=True, max_text=64, settings=Masking(), special=SPECIAL, random=draws)
    assert text.token_ids.tolist() == [SPECIAL.cls, 10, 11, SPECIAL.mask, 13, 14, 15, SPECIAL.sep]
    assert (text.targets.tolist(), text.labels.tolist(), text.kinds.tolist()) == ([3], [12], [0])


def test_the_example_of_regions():
    boxes = np.array([[0, 0, 3, 1], [1, 0, 4, 1], [9, 9, 10, 10]], np.float32)  # the first two overlap by a half
    for how, hidden in ((0.2, [True, True, False]), (0.95, [False, False, False])):
        draws = Draws([(0.0, how), (0.9, 0.0), (0.9, 0.0)])
        found = mask_regions(boxes, settings=Masking(overlap=0.4), random=draws)
        assert (found[0].tolist(), found[1].tolist()) == ([True, False, False], hidden)
