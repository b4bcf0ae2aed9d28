"""BERT and MPNet as encoders."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from torch.nn import functional as F

from parsers.neural.piece_encoder import PieceEncoder, read_tokenizer
from parsers.neural.tokenizer import tokenize


def states_by_the_book(weights, pieces):
    """BERT (arXiv 1810.04805) or MPNet (arXiv 2004.09297) for one caption."""
    is_mpnet = "encoder.relative_attention_bias.weight" in weights
    parts = (
        ("attn.q", "attn.k", "attn.v", "attn.o")
        if is_mpnet
        else ("self.query", "self.key", "self.value", "output.dense")
    )
    bias = bert_bias = torch.zeros(2, len(pieces), len(pieces))
    places = weights["embeddings.position_embeddings.weight"]
    if is_mpnet:
        places = places[2:]
        table = weights["encoder.relative_attention_bias.weight"]
        bias = torch.stack(
            [torch.stack([table[bucket(j - i)] for j in range(len(pieces))]) for i in range(len(pieces))]
        )
        bias = bias.permute(2, 0, 1)
        assert not torch.equal(bias, bert_bias)
    else:
        places = places + weights["embeddings.token_type_embeddings.weight"][0]

    def linear(states, name):
        return F.linear(states, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(states, name):
        return F.layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    states = weights["embeddings.word_embeddings.weight"][pieces] + places[: len(pieces)]
    states = norm(states, "embeddings.LayerNorm")
    for i in range(2):
        layer = f"encoder.layer.{i}"
        query, key, value = (
            linear(states, f"{layer}.attention.{part}").view(len(pieces), 2, -1).transpose(0, 1) for part in parts[:3]
        )
        attended = (query @ key.mT / key.shape[-1] ** 0.5 + bias).softmax(-1) @ value
        attended = linear(attended.transpose(0, 1).reshape(len(pieces), -1), f"{layer}.attention.{parts[3]}")
        states = norm(states + attended, f"{layer}.attention.{'' if is_mpnet else 'output.'}LayerNorm")
        inner = linear(F.gelu(linear(states, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        states = norm(states + inner, f"{layer}.output.LayerNorm")
    return states


def bucket(ahead):
    """Of eight rows, four look back: distances 0, 1, 2 to 15, farther; and four look ahead."""
    distance = abs(ahead)
    return (4 if ahead > 0 else 0) + (distance if distance < 2 else 2 if distance < 16 else 3)


@pytest.mark.parametrize(("model", "shift"), [("bert", 0), ("mpnet", 3)])
def test_a_word_is_its_first_and_its_last_piece(model, shift, request):
    folder = request.getfixturevalue(model)
    weights = load_file(folder / "model.safetensors")
    encoder = PieceEncoder.from_pretrained(folder).eval()
    captions = [tokenize("dogs on a red mat"), tokenize("dog 🐶 on mats hats")]
    pieces, first, last = encoder.inputs(captions)
    marks = {"bert": [2, 3, 0], "mpnet": [0, 2, 1]}[model]
    assert pieces[0].tolist() == [marks[0], *(shift + i for i in (6, 8, 9, 4, 10, 12)), *marks[1:]]
    states = encoder.states(pieces)
    for row, length, found in zip(pieces, (8, 9), states, strict=True):
        torch.testing.assert_close(found[:length], states_by_the_book(weights, row[:length]), atol=1e-5, rtol=1e-5)
    vectors = encoder(pieces, first, last)
    assert vectors.dtype == torch.float32
    for found, ends in zip(vectors[0], [(1, 2), (3, 3), (4, 4), (5, 5), (6, 6)], strict=True):
        torch.testing.assert_close(found, states[0, list(ends)].flatten(), atol=0.1, rtol=0.05)  # bfloat16
    torch.testing.assert_close(vectors[1, -1], states[1, [6, 7]].flatten(), atol=0.1, rtol=0.05)


def test_far_pieces_share_a_row(mpnet):
    encoder = PieceEncoder.from_pretrained(mpnet).eval()
    pieces, *_ = encoder.inputs([tokenize("dogs on a red mat " * 5)])
    weights = load_file(mpnet / "model.safetensors")
    torch.testing.assert_close(encoder.states(pieces)[0], states_by_the_book(weights, pieces[0]), atol=1e-5, rtol=1e-5)


def test_word_vectors_keep_distances(mpnet):
    encoder = PieceEncoder.from_pretrained(mpnet)
    words = ["man", "dogs", "hat", "red", "on", "mats", "zebra", "a", "wearing"]
    vectors = encoder.word_vectors(words, 8)
    table = encoder.words.weight
    dogs = (table[9] + table[11]) / 2
    torch.testing.assert_close((vectors[1] - vectors[0]).norm(), (dogs - table[8]).norm())
    assert vectors.mean(0).abs().max() < 1e-5
    assert encoder.word_vectors(words, 2).shape == (9, 2)


@pytest.mark.parametrize("model", ["bert", "mpnet"])
def test_files_of_other_models_are_refused(model, request, tmp_path):
    shutil.copytree(request.getfixturevalue(model), tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(ValueError, match="no BERT and no MPNet"):
        PieceEncoder.from_pretrained(tmp_path)


def test_a_tokenizer_that_is_not_berts_is_refused(bert):
    config = json.loads((bert / "config.json").read_text())
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"\[CLS\]"):
        PieceEncoder(config, tokenizer)


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing"):
        read_tokenizer(tmp_path / "tokenizer.json")
