"""Nodes to hide, and how well they are guessed."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.data.masking import SpecialTokens, hide_node, lay_out, maskable
from pretrain.model.heads import PretrainingOutput
from pretrain.probes import (
    Probe,
    choose_other_images,
    draw_probes,
    find_probes,
    measure_accuracies,
    rank_answers,
    rank_guesses,
)
from tests.pretrain.conftest import PIECES
from tests.pretrain.data.masks import allowed, captions, mentions_of, needed_by, one_caption

SPECIAL = SpecialTokens.of(PIECES)


CPU = torch.device("cpu")


def ranks_of(model, shards, probes, images="own", batch_size=7):
    found = rank_answers(model, shards, probes, images, max_text=16, batch_size=batch_size, device=CPU)
    return [ranks.tolist() for ranks in found]


@settings(max_examples=200)
@given(captions(), st.integers(3, 18))
def test_a_hidden_node_is_hidden_whole_and_nothing_else_is(masks, max_text):
    layout = lay_out(masks, 0, max_text=max_text, special=SPECIAL)
    for node, mentions in allowed(masks, layout.places).items():
        text = hide_node(masks, node, max_text=max_text, special=SPECIAL)
        pieces = list(chain(*mentions))
        own = layout.places[pieces]
        assert len(own) > 0
        assert (text.token_ids[own] == SPECIAL.mask).all()
        rest = np.setdiff1d(np.arange(len(layout.token_ids)), own)
        assert (text.token_ids[rest] == layout.token_ids[rest]).all()
        assert text.targets.tolist() == own.tolist()
        assert text.labels.tolist() == masks.token_ids[pieces].tolist()
        assert set(text.kinds.tolist()) == {masks.node_kind[node]}
        for needed in needed_by(masks, node):
            assert mentions_of(masks, needed, layout.places) or not len(masks.tokens(needed))
            assert not set(layout.places[masks.tokens(needed)].tolist()) & set(own.tolist())


@settings(max_examples=200)
@given(captions(), st.integers(0, 16))
def test_a_node_is_left_out_only_for_a_reason(masks, length):
    places = np.arange(len(masks.token_ids))
    kept = set(maskable(masks, 0, np.where(places < length, places, -1)))
    for node in set(range(len(masks.node_kind))) - kept:
        own = masks.tokens(node).tolist()
        needed = [p for a in masks.node_args[node] if a >= 0 for p in masks.tokens(a).tolist()]
        assert not own or max([*own, *needed]) >= length or set(own) & set(needed)


def test_all_mentions_of_an_object_are_one_probe():
    """a dog , it barks . the brown animal: the last mention is cut off after "brown"."""
    masks = one_caption(9, [0], [(-1, -1)], [[1, 3, 7, 8]])
    for max_text, hidden in ((64, [2, 4, 8, 9]), (10, [2, 4]), (5, [2]), (3, [])):
        places = lay_out(masks, 0, max_text=max_text, special=SPECIAL).places
        assert bool(maskable(masks, 0, places)) == bool(hidden)
        if hidden:
            text = hide_node(masks, 0, max_text=max_text, special=SPECIAL)
            assert text.targets.tolist() == hidden
            assert (text.token_ids[hidden] == SPECIAL.mask).all()
            assert (text.token_ids == SPECIAL.mask).sum() == len(hidden)


def test_every_node_is_probed_once(shards):
    whole = list(find_probes(shards, 64))
    assert len({(probe.image, probe.node) for probe in whole}) == len(whole)
    totals = shards.manifest.totals
    assert np.bincount([p.kind for p in whole]).tolist() == [totals.objects, totals.attributes, totals.relations]
    # The second object and the relation stand at 4 and 2, the relation needs the object.
    assert {probe.node % 4 for probe in find_probes(shards, 6)} == {0, 2}
    for probe in whole:
        masks = shards.masks(*shards.places(np.array([probe.image]))[0].tolist())
        text = hide_node(masks, probe.node, max_text=64, special=SPECIAL)
        assert (tuple(text.labels.tolist()), len(text.token_ids)) == (probe.answer, probe.length)


def test_as_many_of_each_kind_are_drawn_the_same_every_time(shards):
    probes = list(find_probes(shards, 64))
    drawn = draw_probes(probes, 5)
    assert drawn == draw_probes(probes, 5)
    assert np.bincount([probe.kind for probe in drawn]).tolist() == [5, 5, 5]
    assert [probe for probe in probes if probe in drawn] == drawn
    assert drawn != [p for kind in range(3) for p in [p for p in probes if p.kind == kind][:5]]
    assert draw_probes(probes, len(probes)) == probes


@given(st.integers(2, 300))
def test_another_image_is_never_the_own_one(n):
    others = choose_other_images(n)
    assert sorted(others.tolist()) == list(range(n))
    assert (others != np.arange(n)).all()


def test_answers_do_not_depend_on_the_batches_and_differ_between_images(model, shards):
    probes = list(find_probes(shards, 16))
    by_images = {}
    for images in ("own", "none", "other"):
        by_images[images] = ranks_of(model, shards, probes, images)
        for batch_size in (1, 64):
            assert ranks_of(model, shards, probes, images, batch_size) == by_images[images]
        some = probes[3::5]
        assert ranks_of(model, shards, some, images) == by_images[images][3::5]
    assert by_images["own"] != by_images["none"]
    assert by_images["own"] != by_images["other"]


def test_what_the_model_is_shown(shards):
    probes = list(find_probes(shards, 16))
    features = [torch.from_numpy(shards.regions(*place).features.astype(np.float32)) for place in shards]
    others = choose_other_images(len(shards))
    order = sorted(range(len(probes)), key=lambda number: probes[number].length)

    class Watching:
        """Always prefers the lowest ids, and keeps what it was shown."""

        def __init__(self):
            self.seen = []

        def __call__(self, *, text_targets, region_targets, token_ids, features, image_mask, **rest):
            assert len(region_targets) == 0
            assert (token_ids.flatten()[text_targets] == SPECIAL.mask).all()
            assert (token_ids == SPECIAL.mask).sum() == len(text_targets)
            for i in range(len(token_ids)):
                rows = features.shape[1] if image_mask is None else int(image_mask[i].sum())
                self.seen.append(features[i, 1:rows])
            logits = -torch.arange(len(PIECES)).float().expand(len(text_targets), -1)
            return PretrainingOutput(logits, torch.zeros(0, 6), torch.zeros(len(token_ids)), torch.zeros(0))

    for images in ("own", "none", "other"):
        watching = Watching()
        assert ranks_of(watching, shards, probes, images) == [list(probe.answer) for probe in probes]
        for number, seen in zip(order, watching.seen, strict=True):
            image = probes[number].image
            wanted = {"own": features[image], "none": torch.zeros(0, 8), "other": features[others[image]]}[images]
            assert torch.equal(seen, wanted)


def test_scores_that_are_no_numbers_are_refused(model, shards):
    def broken(**inputs):
        found = model(**inputs)
        return PretrainingOutput(
            found.vocabulary_logits * torch.nan, found.regions, found.match_logits, found.token_logits
        )

    with pytest.raises(InputError, match="not finite"):
        ranks_of(broken, shards, list(find_probes(shards, 16)))


def test_a_node_is_right_if_all_its_pieces_are():
    probes = [Probe(image, 0, 0, 3, (7, 8)) for image in range(4)] + [Probe(0, 1, 2, 3, (9,))]
    ranks = [np.array(own) for own in ([0, 0], [0, 1], [4, 0], [5, 0], [5])]
    found = measure_accuracies(probes, ranks)
    assert set(found) == {"object", "relation"}
    assert (found["object"][1].nodes, found["object"][5].nodes) == (0.25, 0.75)
    assert (found["object"][1].pieces, found["object"][5].pieces) == (5 / 8, 7 / 8)
    assert found["relation"][5].nodes == found["relation"][5].high == 0


def test_intervals_hold_what_they_promise_for_images_and_not_for_nodes():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        right = random.random(60) < 0.4  # all ten nodes of an image are right, or none
        probes = [Probe(image, node, 0, 3, (7,)) for image in range(60) for node in range(10)]
        found = measure_accuracies(probes, [np.array([0 if right[probe.image] else 9]) for probe in probes])["object"][
            1
        ]
        assert found.low <= found.nodes <= found.high
        held += found.low <= 0.4 <= found.high
    assert held >= 34


def test_guessing_gives_what_is_most_frequent_at_a_place():
    training = [
        Probe(0, 0, 0, 3, (7, 8)),
        Probe(0, 1, 0, 3, (9, 8)),
        Probe(0, 2, 0, 3, (9, 6)),
        Probe(0, 3, 0, 3, (6,)),
    ]
    probes = [Probe(0, 0, 0, 3, (9, 8)), Probe(0, 1, 0, 3, (7, 6)), Probe(0, 2, 0, 3, (6,)), Probe(0, 3, 1, 3, (9,))]
    ranks = rank_guesses(training, probes, 10)
    assert [own.tolist() for own in ranks] == [[0, 0], [1, 1], [0], [9]]
