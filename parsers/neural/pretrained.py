"""A pretrained transformer as the encoder of a teacher; it is never shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn

from parsers.neural.words import Words


class PretrainedEncoder(nn.Module):
    """A BERT in the Hugging Face layout; a word's state is that of its first piece.

    Args:
        folder: ``config.json``, ``vocab.txt`` and ``model.safetensors``.
        dropout: of the states.
    """

    def __init__(self, folder: Path, *, dropout: float = 0.1) -> None:
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        self.size = config["hidden_size"]
        self._tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
        self._pieces: dict[str, list[int]] = {}
        self.words = nn.Embedding(config["vocab_size"], self.size, padding_idx=0)
        self.places = nn.Embedding(config["max_position_embeddings"], self.size)
        self.norm = nn.LayerNorm(self.size, eps=config["layer_norm_eps"])
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                self.size, config["num_attention_heads"], config["intermediate_size"], dropout, "gelu",
                config["layer_norm_eps"], batch_first=True,
            )
            for _ in range(config["num_hidden_layers"])
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.load_state_dict(_renamed(load_file(folder / "model.safetensors"), len(self.layers)))

    def inputs(self, captions: Sequence[Words]) -> tuple[Tensor, ...]:
        """int64 [B, P] pieces, 0 where there is none, and int64 [B, T] places of the words' first pieces."""
        rows, firsts = [], []
        for words in captions:
            row, first = [self._tokenizer.token_to_id("[CLS]")], []
            for form in words.forms:
                if form not in self._pieces:
                    ids = self._tokenizer.encode(form, add_special_tokens=False).ids
                    self._pieces[form] = ids or [self._tokenizer.token_to_id("[UNK]")]
                first.append(len(row))
                row += self._pieces[form]
            rows.append([*row, self._tokenizer.token_to_id("[SEP]")])
            firsts.append(first)
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows]), torch.tensor(firsts)

    def forward(self, pieces: Tensor, firsts: Tensor) -> Tensor:
        """[B, T, size]"""
        states: Tensor
        places = torch.arange(pieces.shape[1], device=pieces.device)
        states = self.dropout(self.norm(self.words(pieces) + self.places(places)))
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=pieces == 0)
        states = self.dropout(states.gather(1, firsts[:, :, None].expand(-1, -1, self.size)))
        return states


def _renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """BERT's names as torch's; the one segment that captions are in joins the places."""
    embeddings = {name.removeprefix("embeddings."): tensor for name, tensor in weights.items()}
    renamed = {
        "words.weight": embeddings["word_embeddings.weight"],
        "places.weight": embeddings["position_embeddings.weight"] + embeddings["token_type_embeddings.weight"][0],
        "norm.weight": embeddings["LayerNorm.weight"],
        "norm.bias": embeddings["LayerNorm.bias"],
    }
    for n in range(layers):
        old, new = f"encoder.layer.{n}.", f"layers.{n}."
        for kind in ("weight", "bias"):
            renamed[f"{new}self_attn.in_proj_{kind}"] = torch.cat(
                [weights[f"{old}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            )
            for theirs, ours in (
                ("attention.output.dense", "self_attn.out_proj"),
                ("attention.output.LayerNorm", "norm1"),
                ("intermediate.dense", "linear1"),
                ("output.dense", "linear2"),
                ("output.LayerNorm", "norm2"),
            ):
                renamed[f"{new}{ours}.{kind}"] = weights[f"{old}{theirs}.{kind}"]
    return renamed
