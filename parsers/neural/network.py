"""The network of the neural parser: what words are, and which arcs join them, scored on top of word vectors.

It follows the biaffine dependency parser (arXiv 1611.01734). Each word gets a vector for each part that it may play in
an arc, and the score of an arc is a bilinear form of two such vectors. The score of a relation is the sum of three
arcs: anchor and subject, anchor and object, subject and object. So the three words are judged together. The anchor is
the last word of the relation, or the object if the caption has no word for the relation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from parsers.neural.tokenizer import TokenizedCaption
from parsers.neural.vocabulary import Vocabulary

ROLES = ("object", "object_joined", "attribute_joined", "visible")
"""Roles of a word: it is the last word of an object's name, or joined to the next word in a name or in an attribute.

The last one says whether the object or the attribute that the word stands for can be seen; it means nothing elsewhere.
"""
VISIBLE = ROLES.index("visible")
KINDS = ("object", "attribute", "relation")
"""The kinds of nodes that a word may belong to. For each kind, an edit of the word makes its label."""
OBJECT, ATTRIBUTE, RELATION = range(len(KINDS))
ARCS = 5


class GraphScores(NamedTuple):
    """Log-odds of the decisions on B captions of T words each; one caption's scores have no dimension B."""

    roles: Tensor
    """[B, T, len(ROLES)]"""
    attributes: Tensor
    """[B, T, T]: from the last word of an attribute to its object"""
    anchor_subject: Tensor
    """[B, T, T]"""
    anchor_object: Tensor
    """[B, T, T]"""
    subject_object: Tensor
    """[B, T, T]"""
    relation_words: Tensor
    """[B, T, T]: from an anchor to another word of the relation"""
    relation_labels: Tensor
    """[B, T, relation labels], at the anchor"""
    edits: Tensor
    """[B, T, len(KINDS), edits]"""

    def relations(self) -> Tensor:
        """Returns the log-odds of all relations, [B, T, T, T] for anchor, subject and object."""
        return self.anchor_subject[:, :, :, None] + self.anchor_object[:, :, None, :] + self.subject_object[:, None]


class Encoder(Protocol):
    """A module that gives each word a vector."""

    size: int
    """width of the vectors"""

    @property
    def config(self) -> Mapping[str, object]:
        """What the encoder is built from, as JSON values."""

    def inputs(self, captions: Sequence[TokenizedCaption]) -> tuple[Tensor, ...]:
        """Returns what a call takes, for captions of equal length."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Returns float32 [B, T, size]."""


class ParserNetwork(nn.Module):
    """Scores the decisions on captions of equal length.

    Args:
        encoder: gives each word a vector.
        vocabulary: the labels to tell apart.
        arc: width of the vectors that arcs are scored with.
        dropout: probability of dropping an element of those vectors.
    """

    def __init__(self, encoder: Encoder, vocabulary: Vocabulary, *, arc: int = 48, dropout: float = 0.33) -> None:
        super().__init__()
        self.encoder, self.vocabulary, self.arc = encoder, vocabulary, arc
        size = encoder.size
        self.dropout = nn.Dropout(dropout)
        self.ends = nn.Linear(size, ARCS * 2 * arc)
        self.arcs = nn.Parameter(torch.randn(ARCS, arc + 1, arc + 1) * 0.02)
        with torch.no_grad():
            self.arcs[:, -1, -1] = -2  # most words are joined by no arc
        self.roles = nn.Linear(size, len(ROLES))
        self.relations = nn.Linear(size, len(vocabulary.relation_labels))
        self.edits = nn.Linear(size, len(KINDS) * len(vocabulary.edits))

    def inputs(self, captions: Sequence[TokenizedCaption]) -> tuple[Tensor, ...]:
        """Returns what `forward` takes for captions of equal length, on the network's device."""
        return tuple(tensor.to(self.arcs.device) for tensor in self.encoder.inputs(captions))

    def set_dropout(self, probability: float) -> None:
        """Sets the probability of dropping an element, here and in the encoder."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability
            elif isinstance(module, nn.LSTM):
                module.dropout = probability

    @torch.inference_mode()
    def score(self, captions: Sequence[TokenizedCaption]) -> GraphScores:
        """Scores captions of equal length without keeping what a gradient needs."""
        scores: GraphScores = self(*self.inputs(captions))
        return scores

    def forward(self, *inputs: Tensor) -> GraphScores:
        """Scores captions of equal length.

        Args:
            inputs: what `inputs` returns.
        """
        states = self.encoder(*inputs)
        return self.score_heads(self.ends(states), self.roles(states), self.relations(states), self.edits(states))

    def score_heads(self, ends: Tensor, roles: Tensor, relations: Tensor, edits: Tensor) -> GraphScores:
        """Turns the outputs of the four linear layers, each [B, T, its size], into scores."""
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
        attributes, anchor_subject, anchor_object, subject_object, relation_words = arcs.unbind(0)
        return GraphScores(
            roles,
            attributes,
            anchor_subject,
            anchor_object,
            subject_object,
            relation_words,
            relations,
            edits.view(batch, length, len(KINDS), -1),
        )
