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
BERT = {
    "vocab_size": len(VOCABULARY), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A folder with a BERT of two small layers, as Hugging Face lays it out."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(models.WordPiece(dict(zip(VOCABULARY, range(99), strict=False)), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(BERT))
    width, inner = BERT["hidden_size"], BERT["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), width),
        "embeddings.position_embeddings.weight": (64, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "pooler.dense.weight": (width, width),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(BERT["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{part}.weight"] = (width, width)
            shapes[f"{layer}.attention.{part}.bias"] = (width,)
        shapes |= {f"{layer}.intermediate.dense.weight": (inner, width), f"{layer}.intermediate.dense.bias": (inner,)}
        shapes |= {f"{layer}.output.dense.weight": (width, inner), f"{layer}.output.dense.bias": (width,)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes |= {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder
