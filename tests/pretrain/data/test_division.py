"""Global batches divided over ranks and micro-batches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.batches import Collator, StepDataset
from pretrain.data.division import divide
from pretrain.data.order import BatchPlan
from pretrain.recipe import Masking
from pretrain.training.loader import StepLoader
from tests.pretrain.conftest import lengths_of

PAIRS = st.lists(st.tuples(st.integers(2, 64), st.integers(1, 101)), max_size=40)


@settings(deadline=None)
@given(batches=st.lists(PAIRS, min_size=1, max_size=4), ranks=st.integers(1, 12), accumulation=st.integers(1, 4))
def test_the_ranks_together_have_the_global_batch(batches, ranks, accumulation):
    batches = [lengths_of(pairs) for pairs in batches]
    division = divide(batches, ranks=ranks, accumulation=accumulation)
    assert division.samples.sum((1, 2)).tolist() == [len(batch.text) for batch in batches]
    assert division.text.sum((1, 2)).tolist() == [batch.text.sum() for batch in batches]
    assert division.image.sum((1, 2)).tolist() == [batch.image.sum() for batch in batches]
    assert (division.text <= division.samples * division.text_length).all()
    assert (division.image <= division.samples * division.image_length).all()


def test_balance_and_padding_of_two_ranks():
    division = divide([lengths_of([(8, 4), (4, 8), (16, 8), (10, 6)])], ranks=2, accumulation=1)
    assert division.tokens.tolist() == [[24, 40]]
    assert division.balance == 40 / 32
    assert division.text_padding == pytest.approx(1 - 38 / (2 * 8 + 2 * 16))
    assert division.image_padding == pytest.approx(1 - 26 / (4 * 8))


@pytest.mark.parametrize(("images", "max_text"), [("own", 64), ("own", 10), ("none", 64)])
def test_the_positions_are_those_of_the_trainers_batches(shards, images, max_text):
    plan = BatchPlan(
        shards, seed=3, batch_size=9, block_shards=2, mismatch=0.5, max_text=max_text, images=images != "none"
    )
    collator = Collator(
        shards, seed=3, max_text=max_text, masking=Masking(), images=images, device_type="cuda"
    )  # fmt: skip
    steps = range(plan.steps_per_epoch)
    loaded = [
        StepLoader(StepDataset(plan, collator, rank=rank, ranks=2, accumulation=2), steps, workers=0)
        for rank in range(2)
    ]
    for step in steps:
        division = divide([plan.measure(plan.batch(step))], ranks=2, accumulation=2)
        for rank in range(2):
            for part, batch in enumerate(next(loaded[rank])):
                at = 0, rank, part
                assert division.samples[at] == len(batch.matched)
                assert division.text[at] == batch.tokens()
                rows = batch.locations[..., 4].count_nonzero() if batch.image_mask is None else batch.image_mask.sum()
                assert division.image[at] == int(rows)
                assert division.text_length[at] == batch.token_ids.shape[1]
                assert division.image_length[at] == batch.features.shape[1]
