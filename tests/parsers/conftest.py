import functools
import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import parsers
from parsers import Parser


@functools.cache
def built(name: str) -> Parser:
    """A parser takes seconds to build: each is built once."""
    return parsers.get(name)


@pytest.fixture(params=["sng", "dependency", "neural"])
def parser(request) -> Parser:
    return built(request.param)


@pytest.fixture
def dependency() -> Parser:
    return built("dependency")


@pytest.fixture
def sng() -> Parser:
    return built("sng")


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "man", "dog", "hat", "##s", "on", "red", "wearing", "mat"]
SIZES = {
    "vocab_size": len(VOCABULARY), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "max_position_embeddings": 64,
}  # fmt: skip
BERT_ATTENTION = ("self.query", "self.key", "self.value", "output.dense")
MPNET_ATTENTION = ("attn.q", "attn.k", "attn.v", "attn.o")


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A folder with a BERT of two small layers, as Hugging Face lays it out."""
    shapes = {"embeddings.token_type_embeddings.weight": (2, 8)}
    return _folder(tmp_path_factory.mktemp("bert"), VOCABULARY, {}, shapes, BERT_ATTENTION, "output.LayerNorm")


@pytest.fixture(scope="session")
def mpnet(tmp_path_factory):
    """A folder with an MPNet of two small layers, likewise; its vocabulary has BERT's marks, too."""
    vocabulary = ["<s>", "<pad>", "</s>", *VOCABULARY]
    config = {"model_type": "mpnet", "vocab_size": len(vocabulary), "relative_attention_num_buckets": 8}
    shapes = {"encoder.relative_attention_bias.weight": (8, 2)}
    return _folder(tmp_path_factory.mktemp("mpnet"), vocabulary, config, shapes, MPNET_ATTENTION, "LayerNorm")


def _folder(folder, vocabulary, config, shapes, attention, attention_norm):
    pieces = models.WordPiece(dict(zip(vocabulary, range(99), strict=False)), unk_token="[UNK]")
    tokenizer = Tokenizer(pieces)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({**SIZES, **config}))
    width, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes = {
        **shapes,
        "embeddings.word_embeddings.weight": (len(vocabulary), width),
        "embeddings.position_embeddings.weight": (64, width),
        "pooler.dense.weight": (width, width),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in attention:
            shapes[f"{layer}.attention.{part}.weight"] = (width, width)
            shapes[f"{layer}.attention.{part}.bias"] = (width,)
        shapes |= {f"{layer}.intermediate.dense.weight": (inner, width), f"{layer}.intermediate.dense.bias": (inner,)}
        shapes |= {f"{layer}.output.dense.weight": (width, inner), f"{layer}.output.dense.bias": (width,)}
        norms += [f"{layer}.attention.{attention_norm}", f"{layer}.output.LayerNorm"]
    shapes |= {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder
