"""False captions in batches: which pairs get them, what they are asked, and that no mask gives an answer away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.command import InputError
from pretrain.data.batches import Collator, StepDataset
from pretrain.data.masking import ask_words
from pretrain.data.order import BatchPlan
from pretrain.objectives import count_targets
from pretrain.recipe import OBJECTIVES, check_negatives
from shards.reader import ShardSet
from shards.schema import MASK_DTYPES, NEGATIVE_KINDS, Masks
from tests.pretrain.conftest import PIECES, recipe_of
from tests.pretrain.data.masks import SPECIAL

MASK = PIECES.index("[MASK]")


@pytest.fixture(scope="module")
def shards(negatives_folder):
    return ShardSet(negatives_folder)


def recipe_with(**options):
    values = {
        "batch_size": 6, "block_shards": 2, "max_text": 32, "negatives": {"share": 0.7},
        "masking": {"whole": 0.4, "mismatch": 0.5}, "weights": {"token_match": 1.0},
    }  # fmt: skip
    return recipe_of(**(values | options))


def steps_of(recipe, shards, epochs=4):
    plan = BatchPlan.of(recipe, shards)
    return [plan.batch(step) for step in range(epochs * plan.steps_per_epoch)]


def test_mismatched_pairs_get_false_captions_of_their_own_image(shards):
    shown = 0
    for pairs in steps_of(recipe_with(), shards):
        assert not (pairs.negative & pairs.matched).any()
        for number in np.flatnonzero(pairs.negative).tolist():
            shard, row, caption = pairs.text[number].tolist()
            assert [shard, row] == pairs.image[number].tolist()
            masks = shards.negative_masks(shard, row).masks
            assert pairs.length[number] == np.diff(masks.token_offsets)[caption]
            shown += 1
    assert shown > 20


def test_the_share_and_the_kinds_are_those_of_the_recipe(shards):
    def counts(**options):
        found = np.zeros(len(NEGATIVE_KINDS), np.int64)
        possible = 0
        for pairs in steps_of(recipe_with(negatives=options), shards, epochs=30):
            for shard, row, caption in pairs.text[pairs.negative].tolist():
                found[shards.negative_masks(shard, row).kinds[caption]] += 1
            of_kinds = [NEGATIVE_KINDS.index(kind) for kind in options.get("kinds", NEGATIVE_KINDS)]
            for shard, row in pairs.image[~pairs.matched].tolist():
                index = shards.shard(shard)
                kinds = index.negative_kinds[slice(*index.negative_offsets[row : row + 2])]
                possible += np.isin(kinds, of_kinds).any()
        return found, found.sum() / possible

    found, share = counts(share=0.7)
    assert abs(share - 0.7) < 0.1
    assert (found > 0).sum() > 5
    found, share = counts(share=1.0, kinds=["swap_object", "add_attribute"])
    assert share == 1
    assert set(np.flatnonzero(found)) == {0, 7}


def test_without_a_share_the_pairs_are_as_they_were(shards):
    plain = recipe_of(batch_size=6, block_shards=2, max_text=32)
    some = recipe_with(negatives={"share": 0.7})
    for before, after in zip(steps_of(plain, shards), steps_of(some, shards), strict=True):
        assert not before.negative.any()
        images = [sorted(map(tuple, pairs.image.tolist())) for pairs in (before, after)]
        assert len(before) == len(after) == len(images[0]) == len(images[1])


def test_no_mask_gives_away_whether_a_pair_matches(shards):
    recipe = recipe_with()
    collator = Collator.of(recipe, shards, "cpu")
    answers = []
    for pairs in steps_of(recipe, shards):
        batch = collator(pairs)
        asked = batch.match_targets.tolist()
        masked = set((batch.text_targets // batch.token_ids.shape[1]).tolist())
        masked |= set((batch.region_targets // batch.features.shape[1]).tolist())
        assert masked.isdisjoint(asked)
        for number in asked:
            assert MASK not in batch.token_ids[number].tolist()
            rows = slice(None) if batch.image_mask is None else batch.image_mask[number]
            assert batch.features[number][rows].any(1).all(), "a region is hidden"
        answers += batch.matched[asked].tolist()
        assert set(asked) >= set(np.flatnonzero(~pairs.matched).tolist())
    assert 0.15 < np.mean(answers) < 0.5
    assert len(answers) > 50


def test_words_are_asked_about_in_whole_and_in_false_captions_alone(shards):
    recipe = recipe_with()
    collator = Collator.of(recipe, shards, "cpu")
    right = 0
    for pairs in steps_of(recipe, shards):
        batch = collator(pairs)
        width = batch.token_ids.shape[1]
        of_pair = (batch.token_targets // width).tolist()
        whole = {n for n in batch.match_targets.tolist() if pairs.matched[n]}
        assert set(of_pair) == whole | set(np.flatnonzero(pairs.negative).tolist())
        for number, place, label in zip(
            of_pair, (batch.token_targets % width).tolist(), batch.token_labels.tolist(), strict=True
        ):
            shard, row, caption = pairs.text[number].tolist()
            piece = place - 1  # behind [CLS]
            changed = pairs.negative[number] and shards.negative_masks(shard, row).changed_of(caption)[piece]
            assert label == changed
            assert piece in (0, 1, 2, 4), "the nodes of the test's captions"
            right += label
    assert right > 10
    counts = dict(zip(OBJECTIVES, count_targets(batch).tolist(), strict=True))
    assert counts["token_match"] == len(batch.token_targets)
    assert counts["match"] == len(batch.match_targets)


def test_the_example_of_ask_words():
    """The pieces are a blue hat on a man, and the nodes hat, man, blue and on."""
    arrays = {
        "token_ids": range(100, 106),
        "segment_ids": [0] * 6,
        "token_offsets": [0, 6],
        "node_kind": [0, 0, 1, 2],
        "node_caption": [0] * 4,
        "node_args": [[-1, -1], [-1, -1], [0, -1], [0, 1]],
        "node_tokens": [2, 5, 1, 3],
        "node_token_offsets": range(5),
    }
    masks = Masks(**{name: np.array(arrays[name], dtype) for name, dtype in MASK_DTYPES.items()})
    changed = np.array([0, 1, 0, 0, 0, 0], bool)
    places, answers = ask_words(masks, 0, changed, max_text=64, special=SPECIAL)
    assert (places.tolist(), answers.tolist()) == ([2, 3, 4, 6], [1, 0, 0, 0])
    places, _ = ask_words(masks, 0, changed, max_text=5, special=SPECIAL)
    assert places.tolist() == [2, 3], "what is cut off is not asked about"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 2), st.integers(0, 30), st.integers(0, 99))
def test_ranks_show_the_same_pairs_and_ask_the_same(shards, ranks, accumulation, step, seed):
    recipe = recipe_with(seed=seed)

    def shown(ranks, accumulation):
        plan, collator = BatchPlan.of(recipe, shards), Collator.of(recipe, shards, "cpu")
        found = []
        for rank in range(ranks):
            for batch in StepDataset(plan, collator, rank=rank, ranks=ranks, accumulation=accumulation)[step]:
                width, asked = batch.token_ids.shape[1], set(batch.match_targets.tolist())
                for number in range(len(batch.matched)):
                    words = batch.token_targets // width == number
                    text = slice(None) if batch.text_mask is None else batch.text_mask[number]
                    found.append(
                        (
                            batch.token_ids[number][text].tolist(),
                            float(batch.matched[number]),
                            number in asked,
                            (batch.token_targets[words] % width).tolist(),
                            batch.token_labels[words].tolist(),
                        )
                    )
        return sorted(found)

    assert shown(ranks, accumulation) == shown(1, 1)


def test_shards_without_false_captions_are_refused(shard_folder):
    with pytest.raises(InputError, match=r"has no false captions.*pack the shards again with --negatives"):
        check_negatives(recipe_with(), ShardSet(shard_folder))
    check_negatives(recipe_of(batch_size=4), ShardSet(shard_folder))
