"""The text stream from a BERT."""

import pytest
import torch
from safetensors.torch import save_file

from parsers.command import InputError
from pretrain.model.encoder import ErnieViL
from pretrain.model.text_weights import init_text
from tests.models import SMALL

CONFIG = SMALL.model_copy(
    update={"sent_type_vocab_size": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
)


def bert(layers=3, positions=9, segments=2, width=8, words=11):
    torch.manual_seed(1)
    shapes = {
        "embeddings.word_embeddings.weight": (words, width),
        "embeddings.position_embeddings.weight": (positions, width),
        "embeddings.token_type_embeddings.weight": (segments, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
    }
    for n in range(layers):
        for part, out, into in (
            ("attention.self.query", width, width), ("attention.self.key", width, width),
            ("attention.self.value", width, width), ("attention.output.dense", width, width),
            ("intermediate.dense", 4 * width, width), ("output.dense", width, 4 * width),
        ):  # fmt: skip
            shapes |= {f"encoder.layer.{n}.{part}.weight": (out, into), f"encoder.layer.{n}.{part}.bias": (out,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{n}.{part}.weight": (width,), f"encoder.layer.{n}.{part}.bias": (width,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("layout", ["safetensors", "bin", "old names"])
def test_embeddings_and_layers_are_copied(tmp_path, layout):
    weights = bert()
    stored = weights
    if layout == "old names":
        stored = {
            f"bert.{n}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in weights.items()
        }
    if layout == "bin":
        torch.save(stored, tmp_path / "pytorch_model.bin")
    else:
        save_file(stored, tmp_path / "model.safetensors")
    model = ErnieViL(CONFIG)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    taken = init_text(model, tmp_path)
    after = dict(model.named_parameters())
    assert (after["text_embeddings.word.weight"] == weights["embeddings.word_embeddings.weight"]).all()
    assert (after["text_layers.1.feed_forward.contract.bias"] == weights["encoder.layer.1.output.dense.bias"]).all()
    assert (
        after["text_layers.0.attention.value.weight"] == weights["encoder.layer.0.attention.self.value.weight"]
    ).all()
    # Seven of nine positions; two of four segments, the others stay.
    assert (after["text_embeddings.position.weight"] == weights["embeddings.position_embeddings.weight"][:7]).all()
    segments = after["text_embeddings.segment.weight"]
    assert (segments[:2] == weights["embeddings.token_type_embeddings.weight"]).all()
    assert (segments[2:] == before["text_embeddings.segment.weight"][2:]).all()
    assert [note.split(":")[0] for note in taken.partly] == [
        "text_embeddings.position.weight",
        "text_embeddings.segment.weight",
    ]
    assert all((after[name] == before[name]).all() for name in taken.untouched)
    assert {"co_layers.0.text.attention.query.weight", "image_embeddings.feature.weight"} <= set(taken.untouched)
    assert "pooler.dense.weight" in taken.unused
    assert set(taken.copied) | set(taken.untouched) | {n.split(":")[0] for n in taken.partly} == set(after)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (bert(width=16), r"word_embeddings.*needs shape \(11, 8\), the file has \(11, 16\)"),
        (bert(words=12), r"needs shape \(11, 8\), the file has \(12, 8\)"),
        (bert(layers=1), r"encoder\.layer\.1\..*missing"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path, weights, message):
    save_file(weights, tmp_path / "model.safetensors")
    model = ErnieViL(CONFIG)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with pytest.raises(InputError, match=message):
        init_text(model, tmp_path)
    assert all((tensor == before[name]).all() for name, tensor in model.named_parameters())


def test_a_folder_without_weights_and_a_hostile_file_are_named(tmp_path):
    with pytest.raises(InputError, match="holds neither"):
        init_text(ErnieViL(CONFIG), tmp_path)
    torch.save({"a": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model"):
        init_text(ErnieViL(CONFIG), tmp_path)
