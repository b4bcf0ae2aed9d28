"""The encoder beside the released model."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.released_names import load_released, released_name
from tests.pretrain.model.models import (
    PARITY,
    REPOSITORY,
    a_batch,
    needs_parity,
    parity_config,
    parity_inputs,
    randomized,
    small,
)


def record_outputs(model, recorded):
    """Store what each module returns under the name that the fixtures have for it."""

    def watch(module, name):
        def store(module, args, output):
            recorded.update({f"{name}|text": output[0], f"{name}|image": output[1]} if pair else {name: output})

        pair = name.startswith("encoder_colayer")
        module.register_forward_hook(store)

    watch(model.text_embeddings, "pre_encoder")
    watch(model.image_embeddings, "vl_pre_encoder")
    for layers, name in (
        (model.text_layers, "encoder_layer"),
        (model.image_layers, "encoder_vlayer"),
        (model.co_layers, "encoder_colayer"),
    ):
        for index, layer in enumerate(layers):
            watch(layer, f"{name}_{index}")


@needs_parity
@pytest.mark.parametrize(
    ("task", "heads"),
    [
        ("vqa", ("vqa_fc_b_0", "vqa_fc_b_1", "vqa_fc_w_0", "vqa_fc_w_1")),
        ("refcoco_plus", ("cls_seq_label_vl_out_b", "cls_seq_label_vl_out_w")),
        ("flickr", ("match_fc.b_0", "match_fc.w_0")),
        ("vcr", ("vcr_qa_fc.b_0", "vcr_qa_fc.w_0")),
    ],
)
def test_every_layer_equals_the_released_model(task, heads):
    poolers = [f"pooled_fc_{stream}.{kind}" for stream in ("text", "image") for kind in ("w_0", "b_0")]
    model = ErnieViL(parity_config()).eval()
    with np.load(PARITY / f"forward_{task}" / "params.npz") as params:
        extra = load_released(model, params, may_miss=poolers if task == "refcoco_plus" else ())
    assert extra == heads

    inputs, ours = parity_inputs(task), {}
    record_outputs(model, ours)
    with torch.no_grad():
        output = model(**inputs)
    ours |= {"enc_out": output.text, "enc_vl_out": output.image}
    if task != "refcoco_plus":
        ours |= {"pooled_fc_text": output.pooled_text, "pooled_fc_image": output.pooled_image}

    with np.load(PARITY / f"forward_{task}" / "outputs.npz") as arrays:
        released = {name: torch.from_numpy(arrays[name]) for name in arrays if not name.startswith("task_out")}
    assert ours.keys() == released.keys()
    masks = {11: inputs["text_mask"], 8: inputs["image_mask"]}
    for name, expected in released.items():
        real = masks[expected.shape[1]] if expected.dim() == 3 else ...  # padded rows hold rounding noise
        torch.testing.assert_close(
            ours[name][real], expected[real], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@needs_parity
@pytest.mark.parametrize(("size", "total"), [("base", 235_707_392), ("large", 565_031_936)])
def test_released_sizes_have_the_same_parameters(size, total):
    with torch.device("meta"):
        model = ErnieViL(ModelConfig.load(REPOSITORY / "configs" / "model" / f"{size}.json"))
    ours = []
    for name, parameter in model.named_parameters():
        shape = list(parameter.shape)
        ours.append([released_name(name), shape[::-1] if released_name(name).endswith(".w_0") else shape])
    released = json.loads((PARITY / f"params_{size}.json").read_text())
    assert sorted(ours) == sorted(released)
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def released_forward(weights, config, inputs):
    """The released graph, written down from its description: [in, out] weights by name, masks of -10000, no fusion."""

    def fc(x, name):
        return x @ weights[f"{name}.w_0"] + weights[f"{name}.b_0"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}_layer_norm_scale"] + weights[f"{name}_layer_norm_bias"]

    def heads_of(x, count):
        return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)

    def layer(x, memory, bias, name, heads):
        query = heads_of(fc(x, f"{name}multi_head_att_query_fc"), heads)
        key = heads_of(fc(memory, f"{name}multi_head_att_key_fc"), heads)
        value = heads_of(fc(memory, f"{name}multi_head_att_value_fc"), heads)
        scores = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3) + bias[:, None]
        context = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = norm(x + fc(context, f"{name}multi_head_att_output_fc"), f"{name}post_att")
        inner = fc(x, f"{name}ffn_fc_0")
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        return norm(x + fc(inner, f"{name}ffn_fc_1"), f"{name}post_ffn")

    def bias_of(queries, keys):
        return (queries[:, :, None] @ keys[:, None, :] - 1) * 10000

    text_mask, image_mask = inputs["text_mask"].double(), inputs["image_mask"].double()
    text_to_text, image_to_image = bias_of(text_mask, text_mask), bias_of(image_mask, image_mask)
    image_to_text = bias_of(image_mask, text_mask)
    text = sum(
        weights[f"{name}_embedding"][inputs[f"{ids}_ids"]]
        for name, ids in (("word", "token"), ("pos", "position"), ("sent", "segment"))
    )
    text = norm(text, "pre_encoder")
    image = fc(inputs["features"].double(), "image_emb") + fc(inputs["locations"].double(), "image_loc")
    image = norm(image, "vl_pre_encoder")

    def run(text, image, text_layers, image_layers):
        for i in text_layers:
            text = layer(text, text, text_to_text, f"encoder_layer_{i}_", config.num_attention_heads)
        for j in image_layers:
            image = layer(image, image, image_to_image, f"encoder_vlayer_{j}_", config.v_num_attention_heads)
        return text, image

    text_start = image_start = 0
    for k, (text_end, image_end) in enumerate(zip(config.t_biattention_id, config.v_biattention_id, strict=True)):
        text, image = run(text, image, range(text_start, text_end), range(image_start, image_end))
        name, heads = f"encoder_colayer_{k}_", config.co_num_attention_heads
        text, image = (
            layer(text, image, image_to_text.transpose(1, 2), name, heads),
            layer(image, text, image_to_text, f"{name}vl_", heads),
        )
        text_start, image_start = text_end, image_end
    text, image = run(text, image, [text_start], [image_start])
    return text, image, fc(text[:, 0], "pooled_fc_text").relu(), fc(image[:, 0], "pooled_fc_image").relu()


layer_ids = st.integers(1, 3).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n, unique=True).map(sorted)] * 2)
)


@settings(max_examples=25)
@given(layer_ids, st.lists(st.integers(1, 4), min_size=6, max_size=6), st.integers(1, 30), st.integers(0, 99))
@torch.no_grad()
def test_any_layout_and_any_widths_equal_the_released_graph(ids, sizes, inner, seed):
    heads, widths = sizes[:3], [2 * n * width for n, width in zip(sizes[:3], sizes[3:], strict=True)]
    config = small(
        t_biattention_id=ids[0],
        v_biattention_id=ids[1],
        v_intermediate_size=inner,
        **dict(zip(("num_attention_heads", "v_num_attention_heads", "co_num_attention_heads"), heads, strict=True)),
        **dict(zip(("hidden_size", "v_hidden_size", "co_hidden_size"), widths, strict=True)),
    )
    model = randomized(ErnieViL(config), seed).eval().double()
    weights = {}
    for name, parameter in model.named_parameters():
        released = released_name(name)
        weights[released] = parameter.T if released.endswith(".w_0") else parameter
    inputs = a_batch(seed=seed)
    output = model(**inputs)
    text, image, pooled_text, pooled_image = released_forward(weights, config, inputs)
    masks = inputs["text_mask"], inputs["image_mask"]
    for found, expected, real in ((output.text, text, masks[0]), (output.image, image, masks[1])):
        torch.testing.assert_close(found[real], expected[real], atol=1e-9, rtol=0)
    torch.testing.assert_close(output.pooled_text, pooled_text, atol=1e-9, rtol=0)
    torch.testing.assert_close(output.pooled_image, pooled_image, atol=1e-9, rtol=0)
