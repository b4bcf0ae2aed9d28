"""The network of the neural parser: word vectors under a bidirectional LSTM, roles of words and arcs between them.

After the biaffine dependency parser (arXiv 1611.01734): each word gets a vector for each part it may play in an arc,
and an arc's score is a bilinear form of two such vectors. A relation's score is the sum of three arcs, anchor and
subject, anchor and object, subject and object, so the three are judged together.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from parsers.neural.words import Words

BUCKETS = 8192
"""Rows of the table for parts of words; row 0 stays empty."""
PARTS_PER_WORD = 12
WORD_SPREAD = 0.3
"""Standard deviation of the word vectors that training starts from."""

ROLES = ("object", "object_joined", "attribute_joined")
"""What a word is: the last word of an object's name; joined to the next word in a name, or in an attribute."""
EDITS = ("object", "attribute", "relation")
"""The label of a word in each kind of node is an edit of its form; see `parsers.neural.labels`."""
ARCS = 5


@dataclass(frozen=True, slots=True)
class Labels:
    """What the network's numbers mean."""

    words: tuple[str, ...]
    """Known word forms; number 0 is any other."""
    edits: tuple[str, ...]
    relations: tuple[str, ...]
    """Labels that no words are put together for; number 0 means that they are."""
    frequent: int
    """So many of the words are frequent, and come first after number 0."""
    lookalikes: tuple[str, ...] = ()
    """Unknown words, one letter from a frequent one, that are no slips of the pen; see `parsers.neural.spelling`."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Labels:
        """The inverse of `to_dict`."""
        words, edits, relations, lookalikes = (
            tuple(values[name]) for name in ("words", "edits", "relations", "lookalikes")
        )
        return cls(words, edits, relations, values["frequent"], lookalikes)


class Scores(NamedTuple):
    """Log-odds of the decisions on B captions of T words each."""

    roles: Tensor
    """[B, T, len(ROLES)]"""
    attributes: Tensor
    """[B, T, T]: attribute's last word -> object"""
    anchor_subject: Tensor
    """[B, T, T]"""
    anchor_object: Tensor
    """[B, T, T]"""
    subject_object: Tensor
    """[B, T, T]"""
    words: Tensor
    """[B, T, T]: anchor -> another word of the relation"""
    relations: Tensor
    """[B, T, relation labels]"""
    edits: Tensor
    """[B, T, len(EDITS), edits]"""


def triples(scores: Scores) -> Tensor:
    """Log-odds of all relations: [B, T, T, T] for anchor, subject, object."""
    return scores.anchor_subject[:, :, :, None] + scores.anchor_object[:, :, None, :] + scores.subject_object[:, None]


class Encoder(Protocol):
    """What `Network` stands on: a module that gives each word a vector."""

    config: dict[str, Any]
    """what it is built from, as JSON values"""
    size: int
    """of the vectors"""

    def inputs(self, captions: Sequence[Words]) -> tuple[Tensor, ...]:
        """What a call takes, for captions of equal length."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """float32 [B, T, size]"""


class WordEncoder(nn.Module):
    """Word vectors, from a table of known words and from parts of the spelling, under a bidirectional LSTM.

    Args:
        words: the known forms; number 0 is any other.
        width: of the word vectors and of each direction of the LSTM.
        dropout: of word vectors, and between the layers.
        forgotten: share of the words in training that lose their number, so that the spelling is learned.
    """

    def __init__(self, words: Sequence[str], *, width: int = 96, dropout: float = 0.33, forgotten: float = 0.1) -> None:
        super().__init__()
        self._known = {word: i for i, word in enumerate(words)}
        self._forgotten = forgotten
        self.config = {"width": width}
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
        """Takes word vectors, [words, width or less], as the first ones, scaled to the spread of random ones."""
        with torch.no_grad():
            self.words.weight[:, : vectors.shape[1]] = vectors * WORD_SPREAD / vectors.std()
            self.words.weight[0] = 0

    def inputs(self, captions: Sequence[Words]) -> tuple[Tensor, ...]:
        """int64 [B, T, 1 + PARTS_PER_WORD]: the number and the parts of each word."""
        return (torch.tensor([[(self._number(form), *parts(form)) for form in words.forms] for words in captions]),)

    def _number(self, form: str) -> int:
        """Long numbers all look the same."""
        return self._known.get(form) or self._known.get("0" * len(form) if form.isdigit() else form, 0)

    def embed(self, numbers: Tensor) -> Tensor:
        """[B, T, width] of what ``inputs`` gives."""
        spelling = self.parts(numbers[..., 1:].flatten(0, 1)).view(*numbers.shape[:2], -1)
        vectors: Tensor = self.words(numbers[..., 0]) + spelling
        return vectors

    def forward(self, numbers: Tensor) -> Tensor:
        """[B, T, size]: the states of the LSTM and the word vectors below it."""
        if self.training:
            known = torch.rand(numbers.shape[:2], device=numbers.device) >= self._forgotten
            numbers = torch.cat([numbers[..., :1] * known[..., None], numbers[..., 1:]], dim=-1)
        vectors = self.dropout(self.embed(numbers))
        return torch.cat([self.dropout(self.lstm(vectors)[0]), vectors], dim=-1)


class Network(nn.Module):
    """Scores the decisions on captions of equal length.

    Args:
        encoder: gives [B, T, ``encoder.size``].
        labels: what is to be told apart.
        arc: size of the vectors that arcs are scored with.
        dropout: of the arc vectors.
    """

    def __init__(self, encoder: Encoder, labels: Labels, *, arc: int = 48, dropout: float = 0.33) -> None:
        super().__init__()
        self.encoder, self.labels, self.arc = encoder, labels, arc
        size = encoder.size
        self.dropout = nn.Dropout(dropout)
        self.ends = nn.Linear(size, ARCS * 2 * arc)
        self.arcs = nn.Parameter(torch.randn(ARCS, arc + 1, arc + 1) * 0.02)
        with torch.no_grad():
            self.arcs[:, -1, -1] = -2  # most words are joined by no arc
        self.roles = nn.Linear(size, len(ROLES))
        self.relations = nn.Linear(size, len(labels.relations))
        self.edits = nn.Linear(size, len(EDITS) * len(labels.edits))

    def inputs(self, captions: Sequence[Words]) -> tuple[Tensor, ...]:
        """What `forward` takes, for captions of equal length, on the network's device."""
        return tuple(tensor.to(self.arcs.device) for tensor in self.encoder.inputs(captions))

    @torch.inference_mode()
    def score(self, captions: Sequence[Words]) -> Scores:
        """Scores captions of equal length."""
        return self(*self.inputs(captions))  # type: ignore[no-any-return]

    def forward(self, *inputs: Tensor) -> Scores:
        """Scores what the encoder's ``inputs`` made of a batch."""
        states = self.encoder(*inputs)
        return self.from_heads(self.ends(states), self.roles(states), self.relations(states), self.edits(states))

    def from_heads(self, ends: Tensor, roles: Tensor, relations: Tensor, edits: Tensor) -> Scores:
        """Scores from what the linear layers make of the encoder's vectors, each [B, T, its size]."""
        batch, length, _ = ends.shape
        ends = self.dropout(torch.relu_(ends)).unflatten(-1, (ARCS, 2, self.arc))
        starts, stops = ends.permute(3, 2, 0, 1, 4)  # each [arcs, B, T, arc]
        # A bilinear form of both vectors with a one behind them: the last row and column of `arcs` are for the ones.
        matrix, column, row, corner = (
            self.arcs[:, :-1, :-1], self.arcs[:, :-1, -1:], self.arcs[:, -1:, :-1], self.arcs[:, -1:, -1:]
        )  # fmt: skip
        starts = starts.flatten(1, 2)
        arcs = torch.baddbmm(row, starts, matrix).view_as(stops) @ stops.transpose(-1, -2)
        arcs = arcs + torch.baddbmm(corner, starts, column).view(ARCS, batch, length, 1)
        return Scores(roles, *arcs.unbind(0), relations, edits.unflatten(-1, (len(EDITS), -1)))  # type: ignore[call-arg, no-untyped-call]


@lru_cache(maxsize=1 << 16)
def parts(form: str) -> tuple[int, ...]:
    """`PARTS_PER_WORD` rows of the table: length, ends and three-letter parts of the word, then zeros.

    Misspelt and unknown words share most parts with those that were meant.
    """
    marked = f"^{form}$"
    ends = [f"{n}{part}" for n in (2, 3, 4) if n <= len(form) for part in (f"<{form[:n]}", f">{form[-n:]}")]
    inner = [marked[i : i + 3] for i in range(1, len(marked) - 3)]
    found = dict.fromkeys((f"#{min(len(form), 4)}{form[:1].isdigit()}", *ends, *inner))
    numbers = [1 + zlib.crc32(part.encode()) % (BUCKETS - 1) for part in found][:PARTS_PER_WORD]
    return (*numbers, *[0] * (PARTS_PER_WORD - len(numbers)))
