import numpy as np
import pytest
import torch

from parsers.command import InputError
from pretrain.data.batches import Collator, StepDataset
from pretrain.data.order import BatchPlan
from pretrain.model.heads import PretrainingOutput
from pretrain.objectives import count_targets, score
from pretrain.recipe import OBJECTIVES, Masking, check_region_target
from pretrain.training.loader import StepLoader
from shards.reader import ShardSet
from tests.pretrain.conftest import collator_of, recipe_of


def rows(batches):
    """What the pairs of some micro-batches show, without padding, in an order of their own."""
    found = []
    for batch in batches:
        lengths = batch.token_ids.shape[1], batch.features.shape[1]
        shown = list(zip((batch.text_mask, batch.image_mask), lengths, strict=True))
        for i in range(len(batch.matched)):
            t, r = (whole if mask is None else mask[i].sum() for mask, whole in shown)
            found.append((batch.token_ids[i, :t].tolist(), batch.features[i, :r].tolist(), float(batch.matched[i])))
    return sorted(found)


@pytest.mark.parametrize(("ranks", "accumulation", "workers"), [(1, 1, 0), (2, 1, 0), (3, 2, 0), (16, 2, 0), (2, 1, 2)])
def test_global_batches_do_not_depend_on_ranks_workers_and_micro_batches(shards, plan, ranks, accumulation, workers):
    steps = range(2, plan.steps_per_epoch + 2)
    collator = collator_of(shards)
    loaders = [
        StepLoader(
            StepDataset(plan, collator, rank=rank, ranks=ranks, accumulation=accumulation), steps, workers=workers
        )
        for rank in range(ranks)
    ]
    for step, parts in zip(steps, zip(*loaders, strict=True), strict=True):
        whole = collator(plan.batch(step))
        assert rows([batch for part in parts for batch in part]) == rows([whole])
        counts = sum(count_targets(batch) for part in parts for batch in part)
        assert counts.tolist() == count_targets(whole).tolist()


def test_the_first_row_of_an_image_is_the_mean_after_masking_and_never_a_target(shards, plan):
    batch = collator_of(shards, masking=Masking(region=0.6))(plan.batch(0))
    for features, mask in zip(batch.features, batch.image_mask, strict=True):
        assert torch.allclose(features[0], features[1:][mask[1:]].mean(0), atol=1e-6)
    assert (batch.region_targets % batch.features.shape[1] > 0).all()
    assert batch.locations[:, 0].tolist() == [[0, 0, 1, 1, 1]] * len(batch.matched)
    assert len(batch.region_targets) == len(batch.region_class_ids) > 0
    matched = batch.matched[batch.region_targets // batch.features.shape[1]]
    assert (matched == 1).all()


def test_other_images_and_no_images(shards, plan):
    pairs = plan.batch(0)
    own, other, none = (collator_of(shards, images=images)(pairs) for images in ("own", "other", "none"))
    assert none.features.shape[1] == 1
    assert not none.features.any()
    assert len(other.region_targets) == len(none.region_targets) == 0
    assert rows([other])[0][0] == rows([own])[0][0]
    assert other.features.shape == own.features.shape


def test_an_empty_slice_is_an_empty_batch(shards, plan):
    batch = collator_of(shards)(plan.batch(0).take(slice(0, 0)))
    assert len(batch.matched) == len(batch.text_targets) == 0
    assert batch.token_ids.shape == (0, 1)
    assert batch.features.shape[:2] == (0, 1)
    assert batch.tokens() == 0


def test_batches_for_cuda_show_the_same(shards, plan):
    for step in range(plan.steps_per_epoch):
        pairs = plan.batch(step)
        cpu, cuda = (collator_of(shards, device_type=device)(pairs) for device in ("cpu", "cuda"))
        t, r = cuda.token_ids.shape[1], cuda.features.shape[1]
        assert t % 8 == 0 or cuda.text_mask is None
        assert r % 8 == 0 or cuda.image_mask is None
        assert rows([cuda]) == rows([cpu])
        assert cuda.tokens() == cpu.tokens() == sum(len(token_ids) for token_ids, _, _ in rows([cpu]))
        # What lies beyond is padding everywhere: also the positions, of which the model may have no more.
        for tensor in (cuda.token_ids, cuda.position_ids, cuda.segment_ids):
            assert not tensor[:, cpu.token_ids.shape[1] :].any()
        for name, a, b in (("text_targets", t, cpu.token_ids.shape[1]), ("region_targets", r, cpu.features.shape[1])):
            there, here = getattr(cuda, name), getattr(cpu, name)
            assert (there // a).tolist() == (here // b).tolist()
            assert (there % a).tolist() == (here % b).tolist()


def test_there_is_a_mask_only_where_something_is_padded(shards, plan):
    pairs = plan.batch(0)
    collator = collator_of(shards)
    batch = collator(pairs)
    assert not batch.text_mask.all()
    assert not batch.image_mask.all()
    one = collator(pairs.take(slice(0, 1)))
    assert one.text_mask is one.image_mask is None
    assert one.tokens() == one.token_ids.shape[1]


@pytest.mark.parametrize("off", OBJECTIVES[:6])
def test_nothing_is_hidden_for_an_objective_without_weight(shards, off):
    recipe = recipe_of(batch_size=11, block_shards=2, weights={off: 0}, masking={"region": 0.5})
    plan = BatchPlan.of(recipe, shards)
    collator = collator_of(shards, max_text=64, masking=recipe.active_masking)
    batches = [collator(plan.batch(step)) for step in range(plan.steps_per_epoch)]
    counts = dict(zip(OBJECTIVES, sum(count_targets(batch) for batch in batches).tolist(), strict=True))
    if off == "match":
        assert all(batch.matched.all() for batch in batches)
    else:
        assert counts[off] == 0
    assert all(count for name, count in counts.items() if name not in (off, "token_match"))
    if off == "region":
        for batch in batches:
            rows = batch.features if batch.image_mask is None else batch.features[batch.image_mask]
            assert rows.any(1).all(), "no region is hidden"


def test_without_nodes_all_words_are_masked_as_in_bert(shards):
    recipe = recipe_of(
        batch_size=11, block_shards=2, weights={"object": 0, "attribute": 0, "relation": 0}, masking={"word": 1}
    )
    plan = BatchPlan.of(recipe, shards)
    batch = collator_of(shards, max_text=64, masking=recipe.active_masking)(plan.batch(0))
    pieces = batch.tokens() - 2 * len(batch.matched)
    of_others = sum(len(row) - 2 for row, _, matched in rows([batch]) if not matched)
    assert len(batch.text_targets) == pieces - of_others


def test_features_are_predicted_as_they_are_stored(shards, plan):
    pairs = plan.batch(0)
    batch = collator_of(shards, region_target="features")(pairs)
    stored = []
    for number, row in (divmod(target, batch.features.shape[1]) for target in batch.region_targets.tolist()):
        stored.append(shards.regions(*pairs.image[number].tolist()).features[row - 1].astype(np.float32))
    assert (batch.region_features.numpy() == np.stack(stored)).all()
    assert batch.region_class_ids.shape == (len(stored), 0)
    predicted = torch.randn(batch.region_features.shape)
    scores = score(
        PretrainingOutput(torch.zeros(len(batch.text_labels), 50), predicted, batch.matched, torch.zeros(0)), batch
    )
    error = ((predicted - batch.region_features) ** 2).mean(1).sum()
    region = OBJECTIVES.index("region")
    assert scores.loss[region].item() == pytest.approx(error.item(), rel=1e-5)
    assert scores.correct.isnan().tolist() == [name == "region" for name in OBJECTIVES]


@pytest.mark.parametrize(
    ("kind", "target", "advice"),
    [
        ("argmax", "distribution", "argmax or features"),
        ("none", "distribution", "features"),
        ("none", "argmax", "feat"),
    ],
)
def test_a_region_target_that_the_shards_lack_is_refused(shard_folder, kind, target, advice):
    shards = ShardSet(shard_folder)
    classes = shards.manifest.classes.model_copy(update={"kind": kind})
    shards.manifest = shards.manifest.model_copy(update={"classes": classes})
    with pytest.raises(InputError, match=advice):
        check_region_target(recipe_of(batch_size=11, block_shards=2, region_target=target), shards)
    check_region_target(recipe_of(batch_size=11, block_shards=2, region_target="features"), shards)
    check_region_target(recipe_of(batch_size=11, block_shards=2, region_target=target, weights={"region": 0}), shards)
    check_region_target(recipe_of(batch_size=11, block_shards=2, region_target=target, images="none"), shards)


@pytest.mark.parametrize(
    ("device_type", "precision", "dtype"),
    [("cuda", "bf16", torch.bfloat16), ("cuda", "fp32", torch.float32), ("cpu", "bf16", torch.float32)],
)
def test_features_for_a_gpu_have_the_type_that_the_model_rounds_them_to(shards, plan, device_type, precision, dtype):
    recipe = recipe_of(batch_size=11, precision=precision, max_text=16)
    plain, found = (Collator.of(recipe, shards, kind)(plan.batch(0)) for kind in ("cpu", device_type))
    rows = plain.features.shape[1]  # sequences for a GPU are padded further
    assert found.features.dtype == dtype
    assert torch.equal(found.features[:, :rows], plain.features.to(dtype))
    assert not found.features[:, rows:].any()
