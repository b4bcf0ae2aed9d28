import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from parsers.command import InputError
from pretrain.model.attention import key_mask
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL
from pretrain.model.heads import ErnieViLForPreTraining
from pretrain.model.released_names import load_released, released_arrays, released_name
from tests.models import released_inputs

REPOSITORY = Path(__file__).resolve().parents[3]
PARITY = REPOSITORY.parent / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no parity fixtures in {PARITY}")

# Every width differs, so that no two can be confused.
SMALL = {
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "sent_type_vocab_size": 4,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "t_biattention_id": (2, 3, 4),
    "v_feature_size": 12,
    "v_hidden_size": 20,
    "v_num_attention_heads": 5,
    "v_intermediate_size": 28,
    "v_biattention_id": (0, 1, 2),
    "co_hidden_size": 32,
    "co_num_attention_heads": 8,
    "class_size": 17,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
SHALLOW = {"t_biattention_id": (1,), "v_biattention_id": (1,)}


def small(**changes):
    return ModelConfig(**(SMALL | changes))


def randomized(module, seed=0):
    """The module with every parameter random, biases and norms included, so that none is without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def a_batch(text_lengths=(9, 4, 7), image_lengths=(3, 6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples, length, rows = len(text_lengths), max(text_lengths, default=5), max(image_lengths, default=5)
    text_mask = torch.arange(length) < torch.tensor(text_lengths, dtype=torch.int64)[:, None]
    image_mask = torch.arange(rows) < torch.tensor(image_lengths, dtype=torch.int64)[:, None]
    return {
        "token_ids": torch.randint(1, 60, (samples, length), generator=generator) * text_mask,
        "position_ids": torch.arange(length).expand(samples, length) * text_mask,
        "segment_ids": torch.randint(0, 4, (samples, length), generator=generator) * text_mask,
        "text_mask": text_mask,
        "features": torch.randn(samples, rows, 12, generator=generator) * image_mask[..., None],
        "locations": torch.rand(samples, rows, 5, generator=generator) * image_mask[..., None],
        "image_mask": image_mask,
    }


def gradients(model, **inputs):
    model.zero_grad(set_to_none=True)
    output = model(**inputs)
    tensors = [getattr(output, field) for field in vars(output)]
    sum(tensor.float().square().sum() for tensor in tensors).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# ---------------------------------------------------------------------------------------------- the released model


def parity_config():
    return ModelConfig(**json.loads((PARITY / "tiny_config.json").read_text()), v_feature_size=12)


def parity_inputs(task):
    with np.load(PARITY / f"forward_{task}" / "inputs.npz") as arrays:
        tensors = [torch.from_numpy(arrays[name]) for name in sorted(arrays)]
    return released_inputs(tensors, task)[0]


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


def test_released_weights_there_and_back():
    source, target = randomized(ErnieViL(small()), seed=1), ErnieViL(small())
    arrays = released_arrays(source)
    assert arrays["encoder_colayer_0_vl_multi_head_att_key_fc.w_0"].shape == (24, 32)
    assert arrays["encoder_colayer_2_vl_post_ffn_layer_norm_scale"].shape == (20,)
    assert load_released(target, arrays | {"vqa_fc_w_0": np.zeros(3)}) == ("vqa_fc_w_0",)
    for name, weight in target.state_dict().items():
        torch.testing.assert_close(weight, source.state_dict()[name], atol=0, rtol=0)


def test_released_weights_that_do_not_fit_are_named_and_nothing_is_loaded():
    model = ErnieViL(small())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    arrays = released_arrays(randomized(ErnieViL(small())))
    del arrays["encoder_layer_3_ffn_fc_0.b_0"]
    arrays["image_emb.w_0"] = arrays["image_emb.w_0"].T
    with pytest.raises(InputError) as error:
        load_released(model, arrays)
    assert "encoder_layer_3_ffn_fc_0.b_0: missing" in str(error.value)
    assert "image_emb.w_0: the model needs shape (12, 20), the checkpoint has (20, 12)" in str(error.value)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        "heads.match.output.weight",
        "text_layers.0.text.attention.query.weight",
        "co_layers.0.attention.query.weight",
        "text_pooler.scale",
    ],
)
def test_no_released_name(name):
    with pytest.raises(ValueError, match="is not a parameter of ErnieViL"):
        released_name(name)


# ---------------------------------------------------------------------------------------------------- the encoder


@torch.no_grad()
def test_padding_does_not_change_real_rows():
    model = randomized(ErnieViL(small())).eval()
    text_lengths, image_lengths = (9, 4, 7), (3, 6, 5)
    batch = a_batch(text_lengths, image_lengths)
    together = model(**batch)
    for sample, (length, rows) in enumerate(zip(text_lengths, image_lengths, strict=True)):
        cut = {
            name: tensor[sample : sample + 1, : rows if name in ("features", "locations", "image_mask") else length]
            for name, tensor in batch.items()
        }
        alone = model(**cut)
        torch.testing.assert_close(together.text[sample, :length], alone.text[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.image[sample, :rows], alone.image[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pooled_text[sample], alone.pooled_text[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pooled_image[sample], alone.pooled_image[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_no_mask_says_that_nothing_is_padded():
    model = randomized(ErnieViL(small())).eval()
    batch = a_batch((9, 9, 9), (6, 6, 6))
    masked, unmasked = model(**batch), model(**batch | {"text_mask": None, "image_mask": None})
    for field in ("text", "image", "pooled_text", "pooled_image"):
        torch.testing.assert_close(getattr(unmasked, field), getattr(masked, field), atol=1e-5, rtol=0)
    assert key_mask(None) is None


@torch.no_grad()
def test_samples_do_not_see_each_other():
    model = randomized(ErnieViL(small())).eval()
    batch, order = a_batch(), torch.tensor([2, 0, 1])
    straight, shuffled = model(**batch), model(**{name: tensor[order] for name, tensor in batch.items()})
    torch.testing.assert_close(shuffled.text, straight.text[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(shuffled.image, straight.image[order], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("ids", [(0, 1, 3), (1, 2, 4)])
def test_states_of_texts_and_images_computed_once_serve_every_pair(ids):
    """Scoring every text with every image, as retrieval does; also where image layers precede the first co-layer."""
    model = randomized(ErnieViL(small(v_biattention_id=ids))).eval()
    batch = a_batch((6, 4, 9), (3, 6, 5))
    texts = {name: batch[name] for name in ("token_ids", "position_ids", "segment_ids", "text_mask")}
    images = {name: batch[name] for name in ("features", "locations", "image_mask")}
    text_states, image_states = model.encode_text(**texts), model.encode_image(**images)
    for shift in range(3):
        of = torch.tensor([shift, (shift + 1) % 3, (shift + 2) % 3])
        expected = model(**texts, **{name: tensor[of] for name, tensor in images.items()})
        pairs = {
            "text_states": text_states,
            "text_mask": texts["text_mask"],
            "image_states": image_states[of],
            "image_mask": images["image_mask"][of],
        }
        apart, pooled = model.encode_pairs(**pairs), model.encode_pairs(**pairs, pooled_only=True)
        for found, fields in (
            (apart, ("text", "image", "pooled_text", "pooled_image")),
            (pooled, ("pooled_text", "pooled_image")),
        ):
            for field in fields:
                torch.testing.assert_close(getattr(found, field), getattr(expected, field), atol=2e-6, rtol=2e-6)
        assert (pooled.text.shape[1], pooled.image.shape[1]) == (1, 1)


@pytest.mark.parametrize("training", [False, True])
def test_an_image_without_a_real_row_gives_finite_numbers(training):
    model = randomized(ErnieViL(small())).train(training)
    batch = a_batch(image_lengths=(3, 6, 0))
    output = model(**batch)
    for tensor in (output.text, output.image, output.pooled_text, output.pooled_image):
        assert tensor.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model, **batch).values())


@torch.no_grad()
def test_an_image_without_a_real_row_is_attended_to_as_if_all_were_real():
    """Adding -10000 to every score, as the released code does, changes no softmax."""
    model = randomized(ErnieViL(small())).eval()
    batch = a_batch()
    nothing, everything = torch.zeros_like(batch["image_mask"]), torch.ones_like(batch["image_mask"])
    masked, unmasked = model(**batch | {"image_mask": nothing}), model(**batch | {"image_mask": everything})
    torch.testing.assert_close(masked.text, unmasked.text, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("text_ids", "image_ids"), [((1, 4), (0, 3)), ((0,), (0,)), ((0, 1, 5), (2, 3, 4))])
def test_layers_run_in_the_configured_order(text_ids, image_ids):
    model = ErnieViL(small(t_biattention_id=text_ids, v_biattention_id=image_ids)).eval()
    ran = []
    for stack in ("text_layers", "image_layers", "co_layers"):
        for index, layer in enumerate(getattr(model, stack)):
            layer.register_forward_hook(lambda *_, name=(stack, index): ran.append(name))
    batch = a_batch()
    output = model(**batch)
    assert output.text.shape == (3, 9, 24)
    assert output.image.shape == (3, 6, 20)
    assert output.pooled_text.shape == output.pooled_image.shape == (3, 32)
    for stack, ids in (("text_layers", text_ids), ("image_layers", image_ids)):
        order = [name for name in ran if name[0] in (stack, "co_layers")]
        expected = [(stack, index) for index in range(ids[-1] + 1)]
        for k in reversed(range(len(ids))):
            expected.insert(ids[k], ("co_layers", k))
        assert order == expected


def test_gradient_checkpointing_gives_the_same_gradients():
    model, batch = randomized(ErnieViL(small())).train(), a_batch()
    calls = []
    model.text_layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    torch.manual_seed(5)
    plain = gradients(model, **batch)
    assert len(calls) == 1
    model.gradient_checkpointing = True
    torch.manual_seed(5)
    checkpointed = gradients(model, **batch)
    assert len(calls) == 3  # once forward, once again for the backward pass
    for name, gradient in plain.items():
        assert torch.equal(checkpointed[name], gradient), name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_into_one_graph(checkpointing, masked):
    model = randomized(ErnieViL(small(**SHALLOW, hidden_dropout_prob=0, attention_probs_dropout_prob=0)))
    batch = a_batch() | ({} if masked else {"text_mask": None, "image_mask": None})
    expected = gradients(model, **batch)
    model.gradient_checkpointing = checkpointing
    torch.compiler.reset()
    actual = gradients(torch.compile(model, backend="aot_eager", fullgraph=True), **batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[f"_orig_mod.{name}"], gradient, atol=1e-4, rtol=1e-4)


def test_one_compiled_graph_serves_all_lengths():
    model = randomized(ErnieViL(small(**SHALLOW, hidden_dropout_prob=0, attention_probs_dropout_prob=0)))
    graphs = []

    def backend(graph, _example_inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
    for text_lengths, image_lengths in (((9, 4, 7), (3, 6, 5)), ((5, 11, 3), (2, 2, 8)), ((3, 20), (30, 4))):
        batch = a_batch(text_lengths, image_lengths)
        actual, expected = compiled(**batch), model(**batch)
        torch.testing.assert_close(actual.text, expected.text, atol=1e-5, rtol=0)
        torch.testing.assert_close(actual.pooled_image, expected.pooled_image, atol=1e-5, rtol=0)
    assert len(graphs) == 1


@pytest.mark.parametrize(("hidden", "attention", "differs"), [(0.5, 0.0, True), (0.0, 0.5, True), (0.0, 0.0, False)])
@torch.no_grad()
def test_dropout_only_in_training(hidden, attention, differs):
    config = small(hidden_dropout_prob=hidden, attention_probs_dropout_prob=attention)
    model, batch = randomized(ErnieViL(config)), a_batch()
    evaluated = model.eval()(**batch)
    assert torch.equal(model(**batch).text, evaluated.text)
    trained = model.train()(**batch)
    assert torch.allclose(trained.text, evaluated.text, atol=1e-5) != differs
    assert torch.allclose(trained.image, evaluated.image, atol=1e-5) != differs


def test_initial_weights():
    torch.manual_seed(0)
    model = ErnieViLForPreTraining(small(vocab_size=3000, initializer_range=0.05))
    drawn = []
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert 0 < parameter.abs().max() <= 0.1, name
            drawn.append(parameter.flatten())
    # A standard normal distribution cut at 2 has the standard deviation 0.8796.
    assert math.isclose(torch.cat(drawn).std().item(), 0.05 * 0.8796, rel_tol=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_two_byte_floats_stay_finite(dtype, autocast, size):
    """Also with an image without a real row, and with features a hundred times as large as a detector's."""
    torch.manual_seed(0)
    model = ErnieViLForPreTraining(small())
    batch = a_batch(image_lengths=(3, 6, 0)) | {
        "text_targets": torch.tensor([1, 12]),
        "region_targets": torch.tensor([2]),
    }
    batch["features"] = (batch["features"] * size).half()
    expected = model.eval()(**batch)
    if not autocast:
        model = model.to(dtype)
    with torch.autocast("cpu", dtype, enabled=autocast):
        output = model(**batch)
        found = gradients(model.train(), **batch)
    torch.testing.assert_close(output.match_logits.float(), expected.match_logits, atol=1e-2, rtol=0)
    assert all(tensor.isfinite().all() for tensor in (output.vocabulary_logits, output.regions))
    assert all(gradient.isfinite().all() for gradient in found.values())


# ------------------------------------------------------------------------------------------------------ the heads


@torch.no_grad()
def test_logits_come_from_the_targets():
    model = randomized(ErnieViLForPreTraining(small())).eval()
    batch = a_batch()
    text_targets, region_targets = torch.tensor([9 * 1 + 2, 0, 9 * 2 + 6]), torch.tensor([6 * 2 + 4])
    output = model(**batch, text_targets=text_targets, region_targets=region_targets)
    encoded, heads = model.ernie_vil(**batch), model.heads

    text = encoded.text[[1, 0, 2], [2, 0, 6]]
    text = heads.vocabulary.transform.norm(F.gelu(heads.vocabulary.transform.projection(text)))
    words = text @ model.ernie_vil.text_embeddings.word.weight.T + heads.vocabulary.bias
    torch.testing.assert_close(output.vocabulary_logits, words, atol=1e-5, rtol=0)

    region = encoded.image[2:, 4]
    region = heads.region.transform.norm(F.gelu(heads.region.transform.projection(region)))
    torch.testing.assert_close(output.regions, heads.region.output(region), atol=1e-5, rtol=0)

    match = (encoded.pooled_text * encoded.pooled_image) @ heads.match.output.weight[0] + heads.match.output.bias
    torch.testing.assert_close(output.match_logits, match, atol=1e-5, rtol=0)


def test_the_output_matrix_is_the_word_embedding():
    model = ErnieViLForPreTraining(small())
    assert not [name for name, weight in model.heads.named_parameters() if 60 in weight.shape and weight.dim() == 2]
    batch = a_batch() | {"text_targets": torch.tensor([1]), "region_targets": torch.tensor([], dtype=torch.int64)}
    unused = sorted(set(range(60)) - set(batch["token_ids"].flatten().tolist()))
    model(**batch).vocabulary_logits.square().sum().backward()
    assert (model.ernie_vil.text_embeddings.word.weight.grad[unused] != 0).any(dim=1).all()


@pytest.mark.parametrize("samples", [3, 0])
@pytest.mark.parametrize("training", [True, False])
def test_heads_without_targets_have_zero_gradients(samples, training):
    """A rank may get a batch without targets, or the empty slice of an epoch's last batch."""
    model = randomized(ErnieViLForPreTraining(small())).train(training)
    nowhere = torch.tensor([], dtype=torch.int64)
    batch = a_batch((9, 4, 7)[:samples], (3, 6, 5)[:samples])
    output = model(**batch, text_targets=nowhere, region_targets=nowhere)
    assert output.vocabulary_logits.shape == (0, 60)
    assert output.regions.shape == (0, 17)
    assert output.match_logits.shape == (samples,)
    found = gradients(model, **batch, text_targets=nowhere, region_targets=nowhere)
    assert not [name for name, gradient in found.items() if gradient is None]
    for name, gradient in found.items():
        assert gradient.isfinite().all(), name
        if not samples or name.startswith(("heads.vocabulary", "heads.region")):
            assert (gradient == 0).all(), name
    assert (found["heads.match.output.weight"] != 0).any() == bool(samples)
