import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.masking import WORD, SpecialTokens, mask_regions, mask_text
from pretrain.recipe import Masking
from shards.schema import MASK_DTYPES, Masks

SPECIAL = SpecialTokens(pad=0, cls=2, sep=3, mask=4, size=1000)


@st.composite
def captions(draw):
    """One caption with any nodes: they may overlap, have no pieces, or share them."""
    length = draw(st.integers(0, 14))
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
        "segment_ids": np.zeros(length),
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


@settings(max_examples=300, deadline=None)
@given(captions(), st.integers(0, 2**32), st.integers(3, 18), st.floats(0.2, 1))
def test_the_rules_of_scene_graph_masking_hold(masks, seed, max_text, share):
    text = mask(masks, seed, max_text=max_text, object=share, attribute=share, relation=share, word=share)
    pieces = masks.token_ids[: max_text - 2]
    assert len(text.token_ids) == len(pieces) + 2
    assert text.token_ids[0] == SPECIAL.cls
    assert text.token_ids[-1] == SPECIAL.sep
    assert (text.labels == pieces[text.targets - 1]).all()
    untouched = np.setdiff1d(np.arange(len(pieces)), text.targets - 1)
    assert (text.token_ids[untouched + 1] == pieces[untouched]).all()

    hidden = dict(zip((text.targets - 1).tolist(), text.kinds.tolist(), strict=True))
    of_nodes = set(masks.node_tokens.tolist())
    assert {p for p, kind in hidden.items() if kind == WORD}.isdisjoint(of_nodes)
    explained = set()
    for node in range(len(masks.node_kind)):
        own, kind = masks.tokens(node).tolist(), masks.node_kind[node]
        if not own or any(hidden.get(p) != kind for p in own):
            continue
        needed = [p for a in masks.node_args[node] if a >= 0 for p in masks.tokens(a)]
        if not any(p in hidden for p in needed) and max([*own, *needed]) < len(pieces):
            explained.update(own)
    # Every hidden piece of a node lies in a node that is hidden whole, while what it needs is there and visible.
    assert {p for p, kind in hidden.items() if kind != WORD} == explained


@given(captions(), st.integers(0, 99))
def test_a_caption_of_another_image_is_not_masked(masks, seed):
    text = mask(masks, seed, matched=False, object=1, word=1)
    assert len(text.targets) == 0
    assert text.token_ids[1:-1].tolist() == masks.token_ids.tolist()


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
