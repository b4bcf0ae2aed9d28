"""A pretrained BERT or MPNet as the encoder of a teacher, which is too slow to parse millions of captions.

The folder of a pretrained model is laid out as Hugging Face does: ``config.json``, ``model.safetensors`` and
``tokenizer.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from parsers.neural.tokenizer import TokenizedCaption

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
MARKS = (("<s>", "[CLS]"), ("</s>", "[SEP]"), ("[UNK]",), ("<pad>", "[PAD]"))
"""The special pieces at the start and the end of a text, for unknown words and for padding.

MPNet's come first because its vocabulary has BERT's, too.
"""
COMMON_PARTS = {"widen": "intermediate.dense", "narrow": "output.dense", "second_norm": "output.LayerNorm"}
BERT_PARTS = {"gather": "attention.output.dense", "first_norm": "attention.output.LayerNorm", **COMMON_PARTS}
MPNET_PARTS = {"gather": "attention.attn.o", "first_norm": "attention.LayerNorm", **COMMON_PARTS}
"""For each name in `_Layer`, the name in the pretrained model."""
MPNET_SHIFT = 2
"""Number of the first row in MPNet's table of positions that stands for a piece."""
FARTHEST = 128
"""Largest distance between pieces that MPNet tells from larger ones."""


class PieceEncoderConfig(TypedDict):
    """The settings of a BERT or an MPNet that are read from its ``config.json``.

    The names are Hugging Face's. The file may have other keys. They are stored again with a teacher, but nothing reads
    them.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_dropout_prob: float
    layer_norm_eps: float
    max_position_embeddings: int
    model_type: NotRequired[str]
    """"mpnet" for an MPNet; anything else, or no such key, for a BERT"""
    relative_attention_num_buckets: NotRequired[int]
    """how many classes of distances between pieces an MPNet tells apart; a BERT has none"""


class PieceEncoder(nn.Module):
    """BERT (arXiv 1810.04805) or MPNet (arXiv 2004.09297), reading words.

    A word's vector is the state of its first piece, followed by the state of its last piece. Attention has no dropout,
    which would slow a CPU down more than it helps.

    Args:
        config: the settings of the pretrained model.
        tokenizer: cuts a word into its pieces.

    Raises:
        ValueError: the tokenizer has no special pieces of BERT or MPNet.
    """

    def __init__(self, config: PieceEncoderConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self._pieces: dict[str, list[int]] = {}
        self._start, self._end, self._unknown, self._padding = (_find_piece(tokenizer, marks) for marks in MARKS)
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        is_mpnet = config.get("model_type") == "mpnet"
        self._shift = MPNET_SHIFT if is_mpnet else 0
        self.size = 2 * width
        self.words = nn.Embedding(config["vocab_size"], width).requires_grad_(False)
        self.places = nn.Embedding(config["max_position_embeddings"], width)
        self.distances = (
            nn.Embedding(config["relative_attention_num_buckets"], config["num_attention_heads"]) if is_mpnet else None
        )
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))

    @classmethod
    def from_pretrained(cls, folder: Path) -> PieceEncoder:
        """Reads a pretrained model without its heads.

        Raises:
            OSError: a file is missing.
            ValueError: the files are neither a BERT's nor an MPNet's.
        """
        config: PieceEncoderConfig = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tokenizer = read_tokenizer(folder / TOKENIZER)
        try:
            encoder = cls(config, tokenizer)
            rename = _rename_mpnet if encoder.distances is not None else _rename_bert
            encoder.load_state_dict(rename(load_file(folder / WEIGHTS), config["num_hidden_layers"]))
        except KeyError as error:
            raise ValueError(f"{folder} holds no BERT and no MPNet: {error} is missing") from error
        return encoder

    def inputs(self, captions: Sequence[TokenizedCaption]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns int64 [B, P] pieces, and int64 [B, T] places of each word's first and of its last piece."""
        rows, first, last = [], [], []
        for words in captions:
            row = [self._start]
            starts, ends = [], []
            for form in words.forms:
                starts.append(len(row))
                row += self._cut(form)
                ends.append(len(row) - 1)
            rows.append(torch.tensor([*row, self._end]))
            first.append(starts)
            last.append(ends)
        pieces = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._padding)
        return pieces, torch.tensor(first), torch.tensor(last)

    def knows(self, word: str) -> bool:
        """Tells whether the word is a single piece."""
        return self.tokenizer.token_to_id(word) is not None

    def _cut(self, form: str) -> list[int]:
        if form not in self._pieces:
            found = self.tokenizer.encode(form, add_special_tokens=False).ids
            self._pieces[form] = found or [self._unknown]
        return self._pieces[form]

    def forward(self, pieces: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Returns the words' vectors, float32 [B, T, size].

        They are computed in bfloat16, which is several times as fast on processors that have it.

        Args:
            pieces, first, last: what `inputs` returns.
        """
        with torch.autocast(pieces.device.type, torch.bfloat16):
            states = self.states(pieces).float()
        chosen = torch.stack([first, last], dim=-1).flatten(1)[..., None].expand(-1, -1, states.shape[-1])
        return states.gather(1, chosen).view(*first.shape, self.size)

    def states(self, pieces: Tensor) -> Tensor:
        """Returns the state of each piece in the last layer, [B, P, width].

        Args:
            pieces: int64 [B, P].
        """
        length = pieces.shape[1]
        vectors = self.words(pieces) + self.places.weight[self._shift : self._shift + length]
        vectors = self.dropout(self.norm(vectors))
        mask = torch.zeros(pieces.shape, device=pieces.device).masked_fill(pieces == self._padding, -torch.inf)
        mask = mask[:, None, None]  # [B, heads, P, P]
        if self.distances is not None:
            rows = _buckets(length, self.distances.num_embeddings).to(pieces.device)
            mask = mask + self.distances(rows).permute(2, 0, 1)
        for layer in self.layers:
            vectors = layer(vectors, mask)
        states: Tensor = vectors
        return states

    def word_vectors(self, words: Sequence[str], width: int) -> Tensor:
        """Returns vectors of single words, float32 [words, at most width].

        They are the main components of the vectors that the words' pieces have below the layers, averaged for each
        word. There are fewer than ``width`` if the words or the vectors have no more.
        """
        vectors = torch.stack([self.words.weight[self._cut(word)].mean(0) for word in words]).detach()
        vectors = vectors - vectors.mean(0)
        directions: Tensor = torch.linalg.svd(vectors, full_matrices=False).Vh
        return vectors @ directions[:width].T


class _Layer(nn.Module):
    """Attention, then two linear layers; each adds its input to its result and normalizes the sum."""

    def __init__(self, config: PieceEncoderConfig) -> None:
        super().__init__()
        width, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self._heads = config["num_attention_heads"]
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.first_norm, self.second_norm = nn.LayerNorm(width, eps=epsilon), nn.LayerNorm(width, eps=epsilon)
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Returns new states, [B, P, width].

        Args:
            states: [B, P, width].
            mask: what is added to the scores of attention, [B, heads, P, P].
        """
        query, key, value = self.attend(states).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))
        states = self.first_norm(states + self.dropout(self.gather(found.transpose(1, 2).flatten(2))))
        inner = F.gelu(self.widen(states))
        result: Tensor = self.second_norm(states + self.dropout(self.narrow(inner)))
        return result


def _buckets(length: int, count: int) -> Tensor:
    """Returns int64 [length, length]: the row of the table of distances for piece i attending to piece j.

    The rows are T5's (arXiv 1910.10683). One half of them is for pieces before i, the other for pieces behind it. Each
    near distance has a row of its own, and far distances share rows by their logarithm.
    """
    ahead = torch.arange(length) - torch.arange(length)[:, None]
    half = count // 2
    near = half // 2
    distance = ahead.abs()
    far = near + (distance.clamp(min=1) / near).log() / math.log(FARTHEST / near) * (half - near)
    return (ahead > 0) * half + torch.where(distance < near, distance, far.long().clamp(max=half - 1))


def read_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer that neither pads nor cuts texts off.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _find_piece(tokenizer: Tokenizer, marks: Sequence[str]) -> int:
    for mark in marks:
        if (number := tokenizer.token_to_id(mark)) is not None:
            return int(number)
    raise ValueError(f"the tokenizer does not know {' or '.join(marks)}: it is neither BERT's nor MPNet's")


def _rename_bert(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Returns BERT's weights under the names of `PieceEncoder`; every caption is a first sentence."""
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    attention = [f"attention.self.{part}" for part in ("query", "key", "value")]
    return {"places.weight": places, **_rename_common(weights, layers, BERT_PARTS, attention)}


def _rename_mpnet(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Returns MPNet's weights under the names of `PieceEncoder`."""
    weights = {name.removeprefix("mpnet."): tensor for name, tensor in weights.items()}
    return {
        "places.weight": weights["embeddings.position_embeddings.weight"],
        "distances.weight": weights["encoder.relative_attention_bias.weight"],
        **_rename_common(weights, layers, MPNET_PARTS, [f"attention.attn.{part}" for part in "qkv"]),
    }


def _rename_common(
    weights: Mapping[str, Tensor], layers: int, names: Mapping[str, str], attention: Sequence[str]
) -> dict[str, Tensor]:
    found = {"words.weight": weights["embeddings.word_embeddings.weight"]}
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for i in range(layers):
            to, source = f"layers.{i}", f"encoder.layer.{i}"
            found |= {f"{to}.{ours}.{kind}": weights[f"{source}.{theirs}.{kind}"] for ours, theirs in names.items()}
            parts = [weights[f"{source}.{part}.{kind}"] for part in attention]
            found[f"{to}.attend.{kind}"] = torch.cat(parts)
    return found
