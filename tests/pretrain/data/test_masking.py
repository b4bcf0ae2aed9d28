import hashlib
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.masking import WORD, lay_out, mask_regions, mask_text, maskable
from pretrain.recipe import Masking
from shards.schema import KINDS
from tests.pretrain.data.masks import SPECIAL, Draws, allowed, captions, mask, needed_by, one_caption


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
@given(captions(), st.integers(0, 2**32), st.integers(3, 40), st.floats(0.2, 1), st.sampled_from(["all", "one"]))
def test_the_rules_of_scene_graph_masking_hold(masks, seed, max_text, share, mentions):
    shares = dict.fromkeys(("object", "attribute", "relation", "word"), share)
    text = mask(masks, seed, max_text=max_text, mentions=mentions, **shares)
    layout = lay_out(masks, 0, max_text=max_text, special=SPECIAL)
    assert (text.labels == layout.token_ids[text.targets]).all()
    assert set(text.targets.tolist()) <= set(layout.places[layout.places >= 0].tolist())
    untouched = np.setdiff1d(np.arange(len(layout.token_ids)), text.targets)
    assert (text.token_ids[untouched] == layout.token_ids[untouched]).all()
    possible = allowed(masks, layout.places)
    assert maskable(masks, 0, layout.places) == {node: list(chain(*wholes)) for node, wholes in possible.items()}

    kind_at = dict(zip(text.targets.tolist(), text.kinds.tolist(), strict=True))
    hidden = {piece: kind_at[place] for piece, place in enumerate(layout.places.tolist()) if place in kind_at}
    of_nodes = set(masks.node_tokens.tolist())
    assert {p for p, kind in hidden.items() if kind == WORD}.isdisjoint(of_nodes)
    explained = set()
    for node, wholes in possible.items():
        needed = [p for a in needed_by(masks, node) for p in masks.tokens(a)]
        for own in wholes if mentions == "one" else [list(chain(*wholes))]:
            if all(hidden.get(p) == masks.node_kind[node] for p in own) and not any(p in hidden for p in needed):
                explained.update(own)
    # Every hidden piece of a node lies in a node, or a mention, that is hidden whole, while what it needs is visible.
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
    nodes_at = Counter(masks.node_tokens.tolist())
    for node in np.flatnonzero(masks.node_kind == KINDS.index(kind)).tolist():
        own = [kind_at.get(places[piece]) for piece in masks.tokens(node).tolist() if nodes_at[piece] == 1]
        if KINDS.index(kind) in own:
            needed = [p for a in needed_by(masks, node) for p in masks.tokens(a)]
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
    return one_caption(10, [0], [(-1, -1)], [range(length)])


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


@settings(max_examples=100, deadline=None)
@given(captions(mentions=1), st.integers(0, 2**32), st.integers(3, 40), st.floats(0.2, 1))
def test_the_choice_of_mentions_changes_nothing_where_objects_have_one(masks, seed, max_text, share):
    shares = dict.fromkeys(("object", "attribute", "relation", "word"), share)
    found = [mask(masks, seed, max_text=max_text, mentions=mentions, **shares) for mentions in ("all", "one")]
    for name in ("token_ids", "targets", "labels", "kinds"):
        assert getattr(found[0], name).tolist() == getattr(found[1], name).tolist()


@pytest.mark.parametrize(
    ("spans", "digest"),
    [
        ("nodes", "b636c7f409bc86a15bb8346474dcd38d8216514b84e928c8df75373b55cd698b"),
        ("random", "995e9284ba7b0471799815e207f1ac0b66be6d65af68ac2d883937c650cdbedc"),
    ],
)
def test_captions_that_mention_each_object_once_are_masked_as_ever(spans, digest):
    """The digests come from the release before objects had several mentions: a run of then can be resumed."""
    found = hashlib.sha256()
    for seed in range(400):
        random = np.random.default_rng(seed)
        length = int(random.integers(1, 24))
        starts = random.integers(0, length, 8)
        tokens = [np.arange(start, min(length, start + random.integers(0, 4))) for start in starts]
        objects = int(random.integers(2, 5))
        arguments = [(-1, -1)] * objects + [(int(random.integers(objects)), -1) for _ in range(2)]
        arguments += [tuple(random.permutation(objects)[:2]) for _ in range(2)]
        masks = one_caption(length, [0] * objects + [1, 1, 2, 2], arguments, tokens[:objects] + tokens[4:])
        random = np.random.default_rng(seed)
        shares = Masking(object=0.5, attribute=0.5, relation=0.5, spans=spans)
        settings = {"max_text": 4 + seed % 20, "settings": shares, "special": SPECIAL, "random": random}
        text = mask_text(masks, 0, matched=True, **settings)
        for array in (text.token_ids, text.targets, text.labels, text.kinds, random.random(1)):
            found.update(np.ascontiguousarray(array).tobytes())
    assert found.hexdigest() == digest


def test_each_mention_is_as_likely_to_be_the_one_that_is_hidden():
    masks = one_caption(10, [0], [(-1, -1)], [[0, 1, 4, 8, 9]])
    hidden = {(1, 2): 0, (5,): 0, (9, 10): 0}
    for seed in range(3000):
        text = mask(masks, seed, object=0.6, word=0, mentions="one")
        if len(text.targets):
            hidden[tuple(text.targets.tolist())] += 1
        assert (len(text.targets) > 0) == (len(mask(masks, seed, object=0.6, word=0).targets) == 5), (
            "the same are taken"
        )
    assert abs(sum(hidden.values()) / 3000 - 0.6) < 0.03
    for count in hidden.values():
        assert abs(count / sum(hidden.values()) - 1 / 3) < 0.04


@pytest.mark.parametrize("mentions", ["all", "one"])
def test_no_mention_of_an_object_that_is_needed_is_hidden(mentions):
    """a red hat , it is on a man: red and on are taken only where neither hat nor it is hidden."""
    masks = one_caption(9, [0, 0, 1, 2], [(-1, -1), (-1, -1), (0, -1), (0, 1)], [[2, 4], [8], [1], [6]])
    together = 0
    for seed in range(500):
        text = mask(masks, seed, object=0.4, attribute=0.8, relation=0.8, word=0.3, mentions=mentions)
        hidden = {place - 1 for place in text.targets.tolist()}
        if hidden & {2, 4}:
            assert not hidden & {1, 6}
            together += hidden >= {2, 4}
        if 8 in hidden:
            assert 6 not in hidden
    assert (together > 0) == (mentions == "all")


def paragraph():
    """a red hat on a man , it is new"""
    return one_caption(
        10,
        [0, 0, 1, 1, 2],
        [(-1, -1), (-1, -1), (0, -1), (0, -1), (0, 1)],
        [[2, 7], [5], [1], [9], [3]],
    )


@pytest.mark.parametrize(
    ("mentions", "take", "max_text", "hidden"),
    [
        ("all", 0.1, 64, [2, 7]),
        ("all", 0.2, 64, [2, 7]),
        ("one", 0.1, 64, [2]),
        ("one", 0.2, 64, [7]),
        ("all", 0.1, 8, [2]),
        ("one", 0.1, 8, [2]),
        ("one", 0.2, 8, [2]),
    ],
)
def test_the_example_of_the_docstring_with_several_mentions(mentions, take, max_text, hidden):
    draws = Draws([(take, 0.3), (0.9, 0.3), (0.0, 0.3), (0.0, 0.3), (0.0, 0.3)], np.full((10, 2), 0.9))
    options = {"max_text": max_text, "settings": Masking(mentions=mentions), "special": SPECIAL, "random": draws}
    text = mask_text(paragraph(), 0, matched=True, **options)
    assert text.targets.tolist() == [piece + 1 for piece in hidden]
    assert (text.token_ids[text.targets] == SPECIAL.mask).all()
    assert text.labels.tolist() == [100 + piece for piece in hidden]


def test_a_mention_of_which_only_some_pieces_are_shown_stays_as_it_is():
    masks = one_caption(6, [0, 1], [(-1, -1), (0, -1)], [[1, 4, 5], [0]])
    places = lay_out(masks, 0, max_text=7, special=SPECIAL).places
    assert places.tolist() == [1, 2, 3, 4, 5, -1]
    assert maskable(masks, 0, places) == {0: [1], 1: [0]}
    text = mask(masks, max_text=7, object=1, word=1)
    assert dict(zip(text.targets.tolist(), text.kinds.tolist(), strict=True)) == {2: 0, 3: 3, 4: 3}


def test_the_example_of_the_docstring():
    """a red hat on a man"""
    masks = one_caption(6, [0, 0, 1, 2], [(-1, -1), (-1, -1), (0, -1), (0, 1)], [[2], [5], [1], [3]])
    draws = Draws([(0.0, 0.3), (0.9, 0.3), (0.0, 0.3), (0.0, 0.3)], np.full((6, 2), 0.9))
    text = mask_text(masks, 0, matched=True, max_text=64, settings=Masking(), special=SPECIAL, random=draws)
    assert text.token_ids.tolist() == [SPECIAL.cls, 100, 101, SPECIAL.mask, 103, 104, 105, SPECIAL.sep]
    assert (text.targets.tolist(), text.labels.tolist(), text.kinds.tolist()) == ([3], [102], [0])


def test_the_example_of_regions():
    boxes = np.array([[0, 0, 3, 1], [1, 0, 4, 1], [9, 9, 10, 10]], np.float32)  # the first two overlap by a half
    for how, hidden in ((0.2, [True, True, False]), (0.95, [False, False, False])):
        draws = Draws([(0.0, how), (0.9, 0.0), (0.9, 0.0)])
        found = mask_regions(boxes, settings=Masking(overlap=0.4), random=draws)
        assert (found[0].tolist(), found[1].tolist()) == ([True, False, False], hidden)
