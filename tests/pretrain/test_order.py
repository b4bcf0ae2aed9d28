import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.order import BatchPlan, slice_of

SETTINGS = settings(max_examples=40, deadline=None)


def plan_of(shards, **options):
    return BatchPlan(shards, **({"seed": 3, "batch_size": 4, "block_shards": 2, "mismatch": 0.5} | options))


@SETTINGS
@given(
    batch_size=st.integers(1, 50), block_shards=st.integers(1, 8), seed=st.integers(0, 2**40), epoch=st.integers(0, 3)
)
def test_every_sample_comes_once_an_epoch(shards, batch_size, block_shards, seed, epoch):
    plan = plan_of(shards, batch_size=batch_size, block_shards=block_shards, seed=seed)
    steps = plan.steps_per_epoch
    batches = [plan.batch(epoch * steps + step) for step in range(steps)]
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (steps - 1)
    seen = np.concatenate([batch.image for batch in batches])
    assert sorted(map(tuple, seen.tolist())) == sorted(shards)


@SETTINGS
@given(batch_size=st.integers(2, 20), block_shards=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_mismatched_caption_belongs_to_another_image_and_a_matched_one_to_its_own(
    shards, batch_size, block_shards, seed
):
    plan = plan_of(shards, batch_size=batch_size, block_shards=block_shards, seed=seed)
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        assert ((batch.image == batch.text[:, :2]).all(1) == batch.matched).all()
        for (shard, row, caption), length in zip(batch.text.tolist(), batch.length, strict=True):
            offsets = shards.masks(shard, row).token_offsets
            assert length == offsets[caption + 1] - offsets[caption]


def test_a_step_does_not_depend_on_the_steps_before_it(shards):
    forward, backward = plan_of(shards), plan_of(shards)
    steps = range(2 * forward.steps_per_epoch)
    wanted = {step: forward.batch(step) for step in steps}
    for step in reversed(steps):
        found = backward.batch(step)
        assert (found.text == wanted[step].text).all()
        assert (found.image == wanted[step].image).all()


def test_epochs_and_seeds_differ(shards):
    plan = plan_of(shards)
    first, second = plan.batch(0), plan.batch(plan.steps_per_epoch)
    other = plan_of(shards, seed=4).batch(0)
    assert first.image.tolist() != second.image.tolist()
    assert first.image.tolist() != other.image.tolist()


def test_about_the_given_share_is_mismatched(shards):
    plan = plan_of(shards, mismatch=0.25)
    matched = np.concatenate([plan.batch(step).matched for step in range(40 * plan.steps_per_epoch)])
    assert abs(matched.mean() - 0.75) < 0.03
    assert plan_of(shards, mismatch=0.0).batch(0).matched.all()


def test_batches_hold_captions_of_similar_length(shards):
    plan = plan_of(shards, block_shards=6)
    spread = [np.ptp(plan.batch(step).length) for step in range(plan.steps_per_epoch)]
    assert np.mean(spread) < 5  # lengths run from 6 to 19


@given(n=st.integers(0, 100), ranks=st.integers(1, 16))
def test_the_slices_of_all_ranks_are_the_batch(n, ranks):
    rows = list(range(n))
    assert [row for rank in range(ranks) for row in rows[slice_of(n, rank, ranks)]] == rows
    sizes = [len(rows[slice_of(n, rank, ranks)]) for rank in range(ranks)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("batch_size", [1, 37, 1000])
def test_batches_larger_than_a_block_and_the_epoch_work(shards, batch_size):
    plan = plan_of(shards, batch_size=batch_size, block_shards=1)
    assert sum(len(plan.batch(step)) for step in range(plan.steps_per_epoch)) == len(shards)
