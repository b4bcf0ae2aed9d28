"""Learning rates by layer and step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune.heads import VqaHead
from finetune.training.optimization import FineTuneOptimizer, count_layers_above, group_parameters
from pretrain.model.encoder import ErnieViL
from tests.models import SMALL as CONFIG


@pytest.mark.parametrize(
    ("first", "text", "embedding"),
    [(6, [18, 17, 16, 15, 14, 13, 11, 9, 7, 5, 3, 1], 19), (18, [*range(30, 12, -1), 11, 9, 7, 5, 3, 1], 31)],
)
def test_the_released_layouts(first, text, embedding):
    """Base and large, as the released code counts."""
    config = CONFIG.model_copy(
        update={"t_biattention_id": tuple(range(first, first + 6)), "v_biattention_id": tuple(range(6))}
    )
    names = [f"text_layers.{i}.feed_forward.expand.bias" for i in range(first + 6)]
    assert [count_layers_above(name, config) for name in names] == text
    assert [count_layers_above(f"image_layers.{i}.attention_norm.weight", config) for i in range(6)] == [
        11,
        9,
        7,
        5,
        3,
        1,
    ]
    for side in ("text", "image"):
        names = [f"co_layers.{i}.{side}.attention.key.weight" for i in range(6)]
        assert [count_layers_above(name, config) for name in names] == [12, 10, 8, 6, 4, 2]
    assert count_layers_above("text_embeddings.word.weight", config) == embedding
    assert count_layers_above("image_embeddings.location.bias", config) == 13
    for name in ("text_embeddings.norm.weight", "image_embeddings.norm.bias", "text_pooler.weight"):
        assert count_layers_above(name, config) == 0


ids = st.lists(st.integers(0, 9), min_size=3, max_size=3, unique=True).map(sorted).map(tuple)


@given(ids, ids)
def test_on_the_way_through_any_layout_there_is_one_layer_less_each_time(text_ids, image_ids):
    config = CONFIG.model_copy(update={"t_biattention_id": text_ids, "v_biattention_id": image_ids})
    for side, ids in (("text", text_ids), ("image", image_ids)):
        way = [f"{side}_layers.{i}.x.weight" for i in range(ids[-1] + 1)]
        for k in reversed(range(3)):
            way.insert(ids[k], f"co_layers.{k}.{side}.x.weight")
        way.insert(0, f"{side}_embeddings.x.weight")
        assert [count_layers_above(name, config) for name in way] == list(range(len(way), 0, -1))


def test_what_is_decayed():
    model, head = ErnieViL(CONFIG), VqaHead(CONFIG, answers=3)
    settings = FineTuneOptimizer(learning_rate=1e-4, layer_decay=0.9, weight_decay=0.02)
    groups = group_parameters(model, head, settings)
    by_parameter = {id(parameter): group for group in groups for parameter in group["params"]}
    named = {**dict(model.named_parameters()), **{f"head.{n}": p for n, p in head.named_parameters()}}
    assert len(by_parameter) == len(named)
    for name, parameter in named.items():
        group = by_parameter[id(parameter)]
        spared = "norm" in name or (name.endswith("bias") and not name.startswith("head."))
        # AdamW multiplies both with the scaled learning rate.
        assert group["weight_decay"] * group["scale"] == pytest.approx(0 if spared else 0.02), name
    assert by_parameter[id(model.text_layers[0].attention.key.weight)]["scale"] == pytest.approx(0.9**3)


@pytest.mark.parametrize("schedule", ["steps", "linear", "noam"])
def test_without_warm_up_the_learning_rate_is_constant(schedule):
    settings = FineTuneOptimizer(learning_rate=0.3, schedule=schedule)
    assert {settings.learning_rate_at(step, 50) for step in range(60)} == {0.3}


@given(st.sampled_from(["steps", "linear", "noam"]), st.integers(1, 50))
def test_the_learning_rate_is_highest_about_the_end_of_the_warm_up(schedule, warmup):
    settings = FineTuneOptimizer(learning_rate=2.0, schedule=schedule, warmup_steps=warmup)
    rates = [settings.learning_rate_at(step, 100) for step in range(150)]
    assert 0 <= min(rates) < max(rates) <= 2.0
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    if schedule == "linear":
        assert rates[100:] == [0.0] * 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay_steps": [9, 4], "warmup_steps": 1}, "does not increase"),
        ({"decay_steps": [4], "schedule": "linear"}, "decay_steps has no effect"),
        ({"layer_decay": 0}, "layer_decay"),
        ({"warmup": 3}, "warmup"),
    ],
)
def test_refused_settings(values, message):
    with pytest.raises(ValidationError, match=message):
        FineTuneOptimizer(learning_rate=1e-4, **values)
