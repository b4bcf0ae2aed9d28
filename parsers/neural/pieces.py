"""A pretrained BERT under the network of the neural parser: a teacher, too slow to parse millions of captions.

Read are folders as Hugging Face lays them out: ``config.json``, ``model.safetensors``, ``tokenizer.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from parsers.neural.words import Words

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
LAYER_PARTS = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
"""`nn.TransformerEncoderLayer`'s names, and BERT's."""


class PieceEncoder(nn.Module):
    """BERT (arXiv 1810.04805) over word pieces; a word's vector is its first and its last piece's state.

    Args:
        config: BERT's, as in ``config.json``.
        tokenizer: cuts a word into its pieces.
    """

    def __init__(self, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = dict(config)
        self.tokenizer = tokenizer
        self._pieces: dict[str, list[int]] = {}
        self._start, self._end, self._unknown = (_number(tokenizer, mark) for mark in ("[CLS]", "[SEP]", "[UNK]"))
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.size = 2 * width
        self.words = nn.Embedding(config["vocab_size"], width).requires_grad_(False)
        self.places = nn.Embedding(config["max_position_embeddings"], width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        layer = nn.TransformerEncoderLayer(
            width, config["num_attention_heads"], config["intermediate_size"], config["hidden_dropout_prob"], "gelu",
            layer_norm_eps=epsilon, batch_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=False)

    @classmethod
    def from_pretrained(cls, folder: Path) -> PieceEncoder:
        """Reads a BERT without its heads.

        Raises:
            OSError: a file is missing.
            ValueError: the files are not a BERT's.
        """
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tokenizer = read_tokenizer(folder)
        try:
            encoder = cls(config, tokenizer)
            encoder.load_state_dict(_renamed(load_file(folder / WEIGHTS), config["num_hidden_layers"]))
        except KeyError as error:
            raise ValueError(f"{folder} holds no BERT: {error} is missing") from error
        return encoder

    def inputs(self, captions: Sequence[Words]) -> tuple[Tensor, Tensor, Tensor]:
        """int64 [B, P] pieces, 0 behind the end; int64 [B, T] places of each word's first and of its last piece."""
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
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(first), torch.tensor(last)

    def _cut(self, form: str) -> list[int]:
        if form not in self._pieces:
            found = self.tokenizer.encode(form, add_special_tokens=False).ids
            self._pieces[form] = found or [self._unknown]
        return self._pieces[form]

    def forward(self, pieces: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """[B, T, size]"""
        places = self.places.weight[: pieces.shape[1]]
        vectors = self.dropout(self.norm(self.words(pieces) + places))
        states: Tensor = self.layers(vectors, src_key_padding_mask=pieces == 0)
        chosen = torch.stack([first, last], dim=-1).flatten(1)[..., None].expand(-1, -1, states.shape[-1])
        return states.gather(1, chosen).view(*first.shape, self.size)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The word pieces of a BERT, without padding or a limit on the length."""
    if not (folder / TOKENIZER).is_file():
        raise FileNotFoundError(f"{folder / TOKENIZER} is missing")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _number(tokenizer: Tokenizer, mark: str) -> int:
    number = tokenizer.token_to_id(mark)
    if number is None:
        raise ValueError(f"the tokenizer does not know {mark}: it is none of BERT's")
    return int(number)


def _renamed(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """BERT's weights under the names of `PieceEncoder`; all captions are first sentences."""
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    found = {
        "words.weight": weights["embeddings.word_embeddings.weight"],
        "places.weight": weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for i in range(layers):
            to, source = f"layers.layers.{i}", f"encoder.layer.{i}"
            found |= {
                f"{to}.{ours}.{kind}": weights[f"{source}.{theirs}.{kind}"] for ours, theirs in LAYER_PARTS.items()
            }
            parts = [weights[f"{source}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            found[f"{to}.self_attn.in_proj_{kind}"] = torch.cat(parts)
    return found
