"""The encoder."""

import math

import pytest
import torch

from pretrain.model.attention import key_mask
from pretrain.model.encoder import ErnieViL
from pretrain.model.heads import ErnieViLForPreTraining
from tests.pretrain.model.models import (
    SHALLOW,
    a_batch,
    gradients,
    randomized,
    small,
)


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
