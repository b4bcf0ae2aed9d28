from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.order import plan_of as large_plan
from benchmarks.order import write_set
from parsers.command import InputError
from pretrain.data.batches import Collator, StepDataset
from pretrain.data.division import divide
from pretrain.data.order import BatchPlan, pairs_per_batch
from pretrain.recipe import Masking
from pretrain.training.loader import StepLoader
from shards.joined import JoinedSet
from shards.reader import ShardSet
from tests.pretrain.conftest import recipe_of, write_shards

SETTINGS = settings(max_examples=40, deadline=None)


def plan_of(shards, **options):
    return BatchPlan(shards, **({"seed": 3, "batch_size": 4, "block_shards": 2, "mismatch": 0.5} | options))


@pytest.fixture(scope="module")
def joined(shards, tmp_path_factory):
    """Sets of 37 and of 14 images."""
    other = ShardSet(write_shards(tmp_path_factory.mktemp("in-domain") / "train", [4, 8, 2], seed=1))
    return JoinedSet([shards, other])


def epoch_of(plan, epoch):
    """The batches of an epoch."""
    first = 0
    while plan.epochs.locate(first)[0] < epoch:
        first += 1
    batches = []
    while plan.epochs.locate(first + len(batches))[0] == epoch:
        batches.append(plan.batch(first + len(batches)))
    return batches


def seen(batches):
    """How often each image is shown."""
    return Counter(tuple(image) for batch in batches for image in batch.image.tolist())


def same(a, b):
    return all((getattr(a, name) == getattr(b, name)).all() for name in ("visit", "image", "text", "matched", "length"))


# ------------------------------------------------------------------------------------------------------------- an epoch


@SETTINGS
@given(
    batch_size=st.integers(1, 50),
    block_shards=st.integers(1, 8),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 3),
    equal_tokens=st.booleans(),
)
def test_every_sample_comes_once_an_epoch(shards, batch_size, block_shards, seed, epoch, equal_tokens):
    plan = plan_of(
        shards, batch_size=batch_size, block_shards=block_shards, seed=seed, equal_tokens=equal_tokens
    )  # fmt: skip
    steps = plan.steps_per_epoch
    batches = [plan.batch(epoch * steps + step) for step in range(steps)]
    assert seen(batches) == dict.fromkeys(shards, 1)
    if equal_tokens:
        assert all(len(batch) for batch in batches)
    else:
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (steps - 1)


@SETTINGS
@given(batch_size=st.integers(2, 20), block_shards=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_mismatched_caption_belongs_to_another_image_and_a_matched_one_to_its_own(
    joined, batch_size, block_shards, seed
):
    plan = plan_of(joined, batch_size=batch_size, block_shards=block_shards, seed=seed, passes=(1, 2.5))
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        assert ((batch.image == batch.text[:, :2]).all(1) == batch.matched).all()
        for (shard, row, caption), length in zip(batch.text.tolist(), batch.length, strict=True):
            offsets = joined.masks(shard, row).token_offsets
            assert length == offsets[caption + 1] - offsets[caption]
        boxes = [joined.shard(shard).num_boxes[row] for shard, row in batch.image.tolist()]
        assert batch.num_boxes.tolist() == boxes


def test_a_mismatched_caption_comes_from_the_same_block(shards):
    """Where batches end with blocks, a batch holds no image of another block, and no caption of one."""
    plan = plan_of(shards, batch_size=1, block_shards=2)
    blocks = [{shard for batch in run for shard in batch.image[:, 0].tolist()} for run in _runs(plan, shards)]
    texts = [{shard for batch in run for shard in batch.text[:, 0].tolist()} for run in _runs(plan, shards)]
    assert [len(block) for block in blocks] == [2, 2, 2]
    assert all(text <= block for text, block in zip(texts, blocks, strict=True))


def _runs(plan, shards):
    """The batches of an epoch of one pair each, cut where the first two shards are through, and so on."""
    batches, left, run = epoch_of(plan, 0), 0, []
    sizes = shards.samples
    while batches:
        ahead = []
        for batch in batches:
            if (shard := int(batch.image[0, 0])) not in ahead:
                ahead.append(shard)
            if len(ahead) == 2:
                break
        left = int(sizes[ahead].sum())
        run, batches = batches[:left], batches[left:]
        yield run


@SETTINGS
@given(seed=st.integers(0, 99), passes=st.tuples(*[st.sampled_from([0.5, 1, 1.5, 2, 0.3])] * 2), data=st.data())
def test_a_step_found_alone_is_the_one_reached_by_walking(joined, seed, passes, data):
    walking = plan_of(joined, seed=seed, passes=passes, batch_size=6)
    steps = [walking.batch(step) for step in range(3 * walking.steps_per_epoch)]
    step = data.draw(st.integers(0, len(steps) - 1))
    assert same(plan_of(joined, seed=seed, passes=passes, batch_size=6).batch(step), steps[step])


def test_epochs_and_seeds_differ(shards):
    plan = plan_of(shards)
    first, second = plan.batch(0), plan.batch(plan.steps_per_epoch)
    other = plan_of(shards, seed=4).batch(0)
    assert first.image.tolist() != second.image.tolist()
    assert first.image.tolist() != other.image.tolist()


def test_captions_of_an_image_are_drawn_anew_each_epoch(shards):
    """Each of the captions of each image comes sooner or later, one an epoch."""
    plan = plan_of(shards, mismatch=0.0)
    shown = Counter(tuple(text) for epoch in range(60) for b in epoch_of(plan, epoch) for text in b.text.tolist())
    captions = {
        (shard, row, caption)
        for shard, row in shards
        for caption in range(len(shards.masks(shard, row).token_offsets) - 1)
    }
    assert set(shown) == captions
    assert shown.total() == 60 * len(shards)


def test_about_the_given_share_is_mismatched(shards):
    plan = plan_of(shards, mismatch=0.25)
    matched = np.concatenate([plan.batch(step).matched for step in range(40 * plan.steps_per_epoch)])
    assert abs(matched.mean() - 0.75) < 0.03
    assert plan_of(shards, mismatch=0.0).batch(0).matched.all()


@pytest.mark.parametrize("batch_size", [1, 37, 1000])
def test_batches_larger_than_a_block_and_the_epoch_work(shards, batch_size):
    plan = plan_of(shards, batch_size=batch_size, block_shards=1)
    assert sum(len(plan.batch(step)) for step in range(plan.steps_per_epoch)) == len(shards)


# -------------------------------------------------------------------------------------------------------- several sets


@SETTINGS
@given(passes=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 99), epoch=st.integers(0, 2))
def test_whole_passes_show_each_sample_that_often(joined, passes, seed, epoch):
    counts = seen(epoch_of(plan_of(joined, passes=passes, seed=seed), epoch))
    assert counts == {(shard, row): passes[0] if shard < 6 else passes[1] for shard, row in joined}


@SETTINGS
@given(
    passes=st.tuples(*[st.integers(1, 60)] * 2).map(lambda tenths: (tenths[0] / 20, tenths[1] / 20)),
    block_shards=st.integers(1, 9),
)
def test_passes_follow_each_other_over_the_epochs(joined, passes, block_shards):
    """After any number of epochs, no sample was seen two times more often than another one of its set."""
    plan = plan_of(joined, passes=passes, block_shards=block_shards, batch_size=7)
    counts = Counter(dict.fromkeys(joined, 0))
    for epoch in range(4):
        counts.update(seen(epoch_of(plan, epoch)))
        for number, (shards, size) in enumerate(((range(6), 37), (range(6, 9), 14))):
            of_set = [count for (shard, _), count in counts.items() if shard in shards]
            assert sum(of_set) == int((epoch + 1) * round(20 * passes[number]) * size // 20)
            assert max(of_set) - min(of_set) <= 1


def test_half_a_pass_shows_the_other_half_in_the_next_epoch(joined):
    plan = plan_of(joined, passes=(1, 0.5))
    halves = [{image for image in seen(epoch_of(plan, epoch)) if image[0] >= 6} for epoch in range(4)]
    everything = {image for image in joined if image[0] >= 6}
    assert [len(half) for half in halves] == [7, 7, 7, 7]
    assert halves[0] | halves[1] == halves[2] | halves[3] == everything
    assert halves[0] != halves[2]


def test_a_second_pass_draws_and_orders_anew(joined):
    plan = plan_of(joined, passes=(0.01, 2), mismatch=0.0, batch_size=14)
    texts = {}
    for batch in epoch_of(plan, 0):
        for visit, text in zip(batch.visit.tolist(), batch.text.tolist(), strict=True):
            if text[0] >= 6:
                texts.setdefault(visit, {})[tuple(text[:2])] = text[2]
    assert [len(of_visit) for of_visit in texts.values()] == [14, 14]
    assert texts[0] != texts[1]


def test_sets_are_mixed_inside_batches(joined):
    plan = plan_of(joined, batch_size=16, block_shards=9)
    assert all(len(set(batch.image[:, 0] >= 6)) == 2 for batch in epoch_of(plan, 0)[:-1])


def test_passes_must_fit_the_sets(joined, shards):
    with pytest.raises(InputError, match="one number for each set of shards, of which there are 2"):
        plan_of(joined, passes=(1,))
    with pytest.raises(InputError, match="of which there are 1"):
        plan_of(shards, passes=(1, 1))


# ------------------------------------------------------------------------------------------- ranks and micro-batches


def rows_of(batches):
    """What the model is shown of each pair: all that is not padding."""
    rows = []
    for batch in batches:
        for number in range(len(batch.matched)):
            text = slice(None) if batch.text_mask is None else batch.text_mask[number]
            image = slice(None) if batch.image_mask is None else batch.image_mask[number]
            shown = (batch.token_ids[number][text], batch.features[number][image], batch.matched[number])
            rows.append(b"".join(tensor.numpy().tobytes() for tensor in shown))
    return sorted(rows)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_global_batches_do_not_depend_on_ranks_and_accumulation(joined, ranks, accumulation):
    steps = range(3, 11)  # over the edge of an epoch

    def loaded(ranks, accumulation, workers=0):
        plan = plan_of(joined, batch_size=9, passes=(1, 0.5))
        collator = Collator(joined, seed=3, max_text=16, masking=Masking(), images="own", device_type="cpu")
        per_rank = [
            list(
                StepLoader(
                    StepDataset(plan, collator, rank=r, ranks=ranks, accumulation=accumulation), steps, workers=workers
                )
            )
            for r in range(ranks)
        ]
        return [rows_of(batch for rank in per_rank for batch in rank[step]) for step in range(len(steps))]

    alone = loaded(1, 1)
    assert alone == loaded(ranks, accumulation)
    if (ranks, accumulation) in {(1, 2), (2, 1)}:
        assert alone == loaded(ranks, accumulation, workers=1) == loaded(ranks, accumulation, workers=3)


def test_ranks_have_equal_work(shards):
    """A global batch of 37 pairs; contiguous slices of the sorted batch are up to 1.4 times the mean."""
    plan = plan_of(shards, batch_size=37)
    batches = [plan.measure(plan.batch(step)) for step in range(8)]
    assert divide(batches, ranks=2, accumulation=1).balance < 1.05
    assert divide(batches, ranks=4, accumulation=2).balance < 1.15  # 10 pairs and 9: 1.08


# ------------------------------------------------------------------------------------------------------------- lengths


def test_batches_hold_pairs_of_similar_length(tmp_path):
    shards = ShardSet(write_shards(tmp_path, [200, 200]))
    plan = plan_of(shards, batch_size=20, mismatch=0.0)
    batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
    assert np.mean([np.ptp(batch.length) for batch in batches]) < 5  # lengths run from 6 to 19
    assert np.mean([np.ptp(batch.num_boxes) for batch in batches]) < 2.5  # boxes from 1 to 5


def test_a_token_budget_is_kept_on_average_and_bounds_batches(tmp_path):
    shards = ShardSet(write_shards(tmp_path, [150, 150, 150]))
    recipe = recipe_of(tokens=1000, block_shards=3, masking={"mismatch": 0.0})
    plan = BatchPlan.of(recipe, shards)
    batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
    sums = np.array([plan.measure(batch).tokens.sum() for batch in batches])
    assert 900 < sums.mean() < 1020, "the number of batches is rounded up"
    assert np.ptp(sums) < 60, "no more than the longest pairs"
    assert len({len(batch) for batch in batches}) > 3
    assert seen(batches) == dict.fromkeys(shards, 1)


def test_the_budget_counts_what_is_shown(shards):
    both, text = (pairs_per_batch(recipe_of(tokens=500, images=images), shards) for images in ("own", "none"))
    short = pairs_per_batch(recipe_of(tokens=500, max_text=8), shards)
    assert both < text
    assert both < short
    assert pairs_per_batch(recipe_of(batch_size=12), shards) == 12


# ---------------------------------------------------------------------------------------------------------- large sets


def test_a_large_set_is_opened_without_reading_its_index(tmp_path):
    """600 shards have an index of three files; only those that a batch needs are opened."""
    write_set(tmp_path, 600, 50)
    shards = ShardSet(tmp_path)
    plan = large_plan(shards)
    assert plan.steps_per_epoch == -(-600 * 50 // 256)
    assert len(plan.batch(0)) == 256
    last = plan.batch(plan.steps_per_epoch - 1)
    assert len(last) == 600 * 50 % 256
    assert sum(len(batch) for batch in shards.key_batches()) == len(shards)


def test_a_damaged_file_of_a_large_index_is_refused_when_it_is_read(tmp_path):
    write_set(tmp_path, 600, 3)
    path = tmp_path / "index-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    shards = ShardSet(tmp_path)
    shards.shard(255)
    for _ in range(2):
        with pytest.raises(InputError, match=r"index-00001\.parquet is not the index that the manifest describes"):
            shards.shard(256)
    shards.shard(599)
    path.unlink()
    with pytest.raises(InputError, match=r"index-00001\.parquet is missing; .*--repair-index"):
        ShardSet(tmp_path)
