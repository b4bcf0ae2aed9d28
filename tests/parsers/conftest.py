import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import parsers
from parsers import Parser
from parsers.lemmatizer import Lemmatizer
from parsers.neural.model_folder import save_network
from parsers.neural.network import ParserNetwork
from parsers.neural.tokenizer import tokenize
from parsers.neural.word_encoder import WordEncoder
from parsers.train.alignment import Aligner
from parsers.train.examples import TrainingExample, make_batches, select_complete
from parsers.train.labels import make_vocabulary
from parsers.train.targets import compute_batch_loss


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


@pytest.fixture(scope="session")
def align():
    return Aligner(Lemmatizer())


CAPTIONS = [
    ("two dogs sitting on a red mat", [("dogs", "is", "2"), ("dogs", "sit on", "mat"), ("mat", "is", "red")]),
    ("a cat on the small blue car", [("cat", "on", "car"), ("car", "is", "small"), ("car", "is", "blue")]),
    ("a man wearing a wide brimmed hat", [("man", "wear", "hat"), ("hat", "is", "wide brimmed")]),
    ("the fire hydrant is near a house", [("fire hydrant", "near", "house")]),
    ("man's hat", [("man", "have", "hat")]),
    ("a car tire", [("car", "have", "tire")]),
    ("a red cell phone", [("cellphone", "is", "red")]),
    ("a red hot dog", [("hot dog", "is", "red")]),
    ("a woman sitting at the big bench", [("woman", "sit on", "bench"), ("bench", "is", "big")]),
]


@pytest.fixture(scope="session")
def model(align, tmp_path_factory):
    """The folder of a network that has learned `CAPTIONS` by heart."""
    torch.manual_seed(0)
    pairs = [(tokenize(text), triples) for text, triples in CAPTIONS * 6]
    examples = select_complete(TrainingExample(words, align(words, triples)) for words, triples in pairs)
    vocabulary = make_vocabulary(examples, [])
    encoder = WordEncoder(vocabulary.words, width=32, dropout=0.0, forgotten=0.0)
    network = ParserNetwork(encoder, vocabulary, dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        for batch in make_batches(examples, 6, rng):
            scores = network(*network.inputs([example.words for example in batch]))
            loss = compute_batch_loss(scores, batch, vocabulary)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    folder = tmp_path_factory.mktemp("model")
    save_network(network, folder)
    return folder
