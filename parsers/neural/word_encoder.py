"""The encoder of the neural parser: word vectors under a bidirectional LSTM."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

import torch
from torch import Tensor, nn

from parsers.neural.tokenizer import TokenizedCaption

BUCKETS = 8192
"""Rows of the table for parts of words; row 0 stays empty."""
PARTS_PER_WORD = 12
WORD_SPREAD = 0.3
"""Standard deviation of the word vectors that training starts from."""


class WordEncoderConfig(TypedDict):
    """The size of a `WordEncoder`: the width of its word vectors and of each direction of its LSTM."""

    width: int


class WordEncoder(nn.Module):
    """Word vectors, from a table of known words and from parts of the spelling, under a bidirectional LSTM.

    Args:
        words: the known forms; number 0 stands for any other.
        width: width of the word vectors and of each direction of the LSTM.
        dropout: probability of dropping an element of the word vectors, and of the states between the layers.
        forgotten: share of the words in training that lose their number, so that the spelling is learned.
    """

    def __init__(self, words: Sequence[str], *, width: int = 96, dropout: float = 0.33, forgotten: float = 0.1) -> None:
        super().__init__()
        self._known = {word: i for i, word in enumerate(words)}
        self._forgotten = forgotten
        self.config: WordEncoderConfig = {"width": width}
        self.size = 3 * width
        self.words = nn.Embedding(len(words), width, padding_idx=0)
        self.parts = nn.EmbeddingBag(BUCKETS, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.words.weight, std=WORD_SPREAD)
        nn.init.normal_(self.parts.weight, std=0.1)
        with torch.no_grad():
            self.words.weight[0] = 0
            self.parts.weight[0] = 0
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def start_from(self, vectors: Tensor) -> None:
        """Replaces the word vectors before training.

        Args:
            vectors: float32 [words, at most width]; they are scaled to the spread of random ones. Columns that they
                lack stay random.
        """
        with torch.no_grad():
            self.words.weight[:, : vectors.shape[1]] = vectors * WORD_SPREAD / vectors.std()
            self.words.weight[0] = 0

    def inputs(self, captions: Sequence[TokenizedCaption]) -> tuple[Tensor, ...]:
        """Returns int64 [B, T, 1 + PARTS_PER_WORD]: the number and the parts of each word."""
        numbers = [[(self._find_number(form), *hash_parts(form)) for form in words.forms] for words in captions]
        return (torch.tensor(numbers),)

    def _find_number(self, form: str) -> int:
        """Returns the word's number; an unknown number of n digits counts as n zeros."""
        return self._known.get(form) or self._known.get("0" * len(form) if form.isdigit() else form, 0)

    def embed(self, numbers: Tensor) -> Tensor:
        """Returns the word vectors, float32 [B, T, width].

        Args:
            numbers: what `inputs` returns.
        """
        spelling = self.parts(numbers[..., 1:].flatten(0, 1)).view(*numbers.shape[:2], -1)
        vectors: Tensor = self.words(numbers[..., 0]) + spelling
        return vectors

    def forward(self, numbers: Tensor) -> Tensor:
        """Returns the states of the LSTM and the word vectors below it, float32 [B, T, size].

        Args:
            numbers: what `inputs` returns.
        """
        if self.training:
            known = torch.rand(numbers.shape[:2], device=numbers.device) >= self._forgotten
            numbers = torch.cat([numbers[..., :1] * known[..., None], numbers[..., 1:]], dim=-1)
        vectors = self.dropout(self.embed(numbers))
        return torch.cat([self.dropout(self.lstm(vectors)[0]), vectors], dim=-1)


@lru_cache(maxsize=1 << 16)
def hash_parts(form: str) -> tuple[int, ...]:
    """Returns `PARTS_PER_WORD` rows of the table: length, ends and three-letter parts of the word, then zeros.

    A misspelt or unknown word shares most of its parts with the word that was meant.
    """
    marked = f"^{form}$"
    ends = [f"{n}{part}" for n in (2, 3, 4) if n <= len(form) for part in (f"<{form[:n]}", f">{form[-n:]}")]
    inner = [marked[i : i + 3] for i in range(1, len(marked) - 3)]
    found = dict.fromkeys((f"#{min(len(form), 4)}{form[:1].isdigit()}", *ends, *inner))
    numbers = [1 + zlib.crc32(part.encode()) % (BUCKETS - 1) for part in found][:PARTS_PER_WORD]
    return (*numbers, *[0] * (PARTS_PER_WORD - len(numbers)))
