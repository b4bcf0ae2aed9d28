"""The model that is fine-tuned, and the head and the loss of each task, as the released fine-tuning has them.

Every head turns the encoder's output into one tensor of logits, so a loss sees logits and labels alone. ``released``
names a head's parameters in released checkpoints, where a weight is stored [in, out].

Shape suffixes: B examples, N pairs of a text and an image, C choices of a question, A answers, R image rows (row 0 is
the whole image), G pairs of a retrieval group, M false pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViL, ErnieViLOutput, initialize
from pretrain.model.heads import MatchHead

HEAD = "head."
"""Prefix of the head's parameters in `FineTunedModel` and in model folders."""


class TaskHead(nn.Module):
    """The layers on top of the encoder. A subclass takes a `ModelConfig` and has a ``forward`` of its own."""

    released: ClassVar[Mapping[str, str]] = {}
    """released name of each parameter; empty for the head of a task that was not released"""
    released_alone: ClassVar[tuple[str, ...]] = ()
    """submodules that a released checkpoint may hold without the rest of the head"""


class FineTunedModel(nn.Module):
    """The encoder with the head of a task."""

    def __init__(self, config: ModelConfig, head: TaskHead) -> None:
        super().__init__()
        self.ernie_vil = ErnieViL(config)
        self.head = head

    def forward(self, **inputs: Tensor | None) -> Tensor:
        """Returns the head's logits. The arguments are those of `ErnieViL.forward`."""
        logits: Tensor = self.head(self.ernie_vil(**inputs))
        return logits


# ----------------------------------------------------------------------------------------------------------------- VCR


class VcrHead(TaskHead):
    """One score for each choice of Q→A, and another for each choice of QA→R.

    Both scores are computed for every pair, whichever part it belongs to. The unused one then has a gradient of zero,
    so momentum and weight decay reach its weights as they do in the released joint training.
    """

    released: ClassVar[Mapping[str, str]] = {
        "qa.output.weight": "vcr_qa_fc.w_0",
        "qa.output.bias": "vcr_qa_fc.b_0",
        "qar.output.weight": "vcr_qar_fc.w_0",
        "qar.output.bias": "vcr_qar_fc.b_0",
    }
    released_alone = ("qa", "qar")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.qa = MatchHead(config.co_hidden_size, config.attention_probs_dropout_prob)
        self.qar = MatchHead(config.co_hidden_size, config.attention_probs_dropout_prob)
        initialize(self, config.initializer_range)

    def forward(self, encoded: ErnieViLOutput) -> Tensor:
        """Returns float [2, N], for Q→A and for QA→R. The choices of a question are N / B pairs in a row."""
        pooled = encoded.pooled_text, encoded.pooled_image
        return torch.stack([self.qa(*pooled), self.qar(*pooled)])


def compute_choice_loss(
    scores_BC: Tensor, answers_B: Tensor, form: Literal["sigmoid", "softmax"] = "sigmoid"
) -> Tensor:
    """Returns the cross-entropy of the right choice, summed over questions: a scalar.

    Args:
        scores_BC: float [B, C].
        answers_B: int64 [B], the index of the right choice.
        form: ``sigmoid`` decides for each choice separately whether it is right and averages over the choices, as the
            released training does. ``softmax`` makes the choices of a question compete, as the released evaluation
            does.
    """
    if form == "softmax":
        return F.cross_entropy(scores_BC, answers_B, reduction="sum")
    right_BC = F.one_hot(answers_B, scores_BC.shape[1]).to(scores_BC.dtype)
    return F.binary_cross_entropy_with_logits(scores_BC, right_BC, reduction="sum") / scores_BC.shape[1]


# ----------------------------------------------------------------------------------------------------------------- VQA


class VqaHead(TaskHead):
    """One score for each answer: the product of the pooled vectors goes through one hidden layer."""

    released: ClassVar[Mapping[str, str]] = {
        "hidden.weight": "vqa_fc_w_0",
        "hidden.bias": "vqa_fc_b_0",
        "output.weight": "vqa_fc_w_1",
        "output.bias": "vqa_fc_b_1",
    }

    def __init__(self, config: ModelConfig, *, answers: int, hidden_size: int = 2048) -> None:
        super().__init__()
        self.fused_dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.hidden = nn.Linear(config.co_hidden_size, hidden_size)
        self.hidden_dropout = nn.Dropout(0.5)  # the released code hard-codes it
        self.output = nn.Linear(hidden_size, answers)
        for layer in (self.hidden, self.output):
            # The released bound, sqrt(3 / (in + out)), is Xavier's with half the variance.
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(0.5))
            nn.init.zeros_(layer.bias)

    def forward(self, encoded: ErnieViLOutput) -> Tensor:
        """Returns float [B, A], the log-odds of each answer."""
        fused = self.fused_dropout(encoded.pooled_text * encoded.pooled_image)
        scores_BA: Tensor = self.output(self.hidden_dropout(F.relu(self.hidden(fused))))
        return scores_BA


def compute_answer_loss(scores_BA: Tensor, targets_BA: Tensor) -> Tensor:
    """Returns the sigmoid cross-entropy with soft targets, summed over answers and questions: a scalar.

    Args:
        scores_BA: float [B, A].
        targets_BA: float [B, A], between 0 and 1: how right each answer is.
    """
    return F.binary_cross_entropy_with_logits(scores_BA, targets_BA, reduction="sum")


# ----------------------------------------------------------------------------------------------------------- retrieval


class RetrievalHead(TaskHead):
    """One score for each caption and image, without dropout. The head of a pretrained model fits as it is."""

    released: ClassVar[Mapping[str, str]] = {"match.output.weight": "match_fc.w_0", "match.output.bias": "match_fc.b_0"}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.match = MatchHead(config.co_hidden_size, dropout=0.0)
        nn.init.xavier_uniform_(self.match.output.weight)
        nn.init.uniform_(self.match.output.bias, -1, 1)

    def forward(self, encoded: ErnieViLOutput) -> Tensor:
        """Returns float [N]. The higher a score, the better caption and image match."""
        scores_N: Tensor = self.match(encoded.pooled_text, encoded.pooled_image)
        return scores_N


def compute_retrieval_loss(scores_BG: Tensor, *, margin: float = 0.3, scale: float = 32.0) -> Tensor:
    """Returns the circle loss of true pairs against two halves of false pairs, averaged over both: a float64 scalar.

    Which false pairs are in which half follows from their order. In the paper, one half has other images and the other
    half other captions. In the released code both halves have other images, and its script leaves the scale at 1.

    Args:
        scores_BG: float [B, G], log-odds: those of the true pair, then those of the false pairs. The first
            (G - 1) // 2 false pairs are the first half.
        margin: see `compute_circle_loss`.
        scale: see `compute_circle_loss`.
    """
    positives_B, negatives = scores_BG.sigmoid()[:, 0], scores_BG.sigmoid()[:, 1:]
    halves = negatives.tensor_split((negatives.shape[1] // 2,), dim=1)
    return torch.stack([compute_circle_loss(positives_B, half, margin, scale) for half in halves]).mean()


def compute_circle_loss(positives_B: Tensor, negatives_BM: Tensor, margin: float, scale: float) -> Tensor:
    """Returns the circle loss (arXiv 2002.10857, equation 8), averaged over examples with one positive: float64.

    Args:
        positives_B: float [B], the similarity of each true pair, between 0 and 1.
        negatives_BM: float [B, M], the similarities of its false pairs.
        margin: the loss pushes negatives below ``margin`` and positives above ``1 - margin``.
        scale: how much more the hardest pairs count than the others.
    """
    positives_B, negatives_BM = positives_B.double(), negatives_BM.double()
    positive_weights_B = (1 + margin - positives_B).clamp(min=0).detach()
    negative_weights_BM = (negatives_BM + margin).clamp(min=0).detach()
    positive_logits_B = -scale * positive_weights_B * (positives_B - (1 - margin))
    negative_logits_BM = scale * negative_weights_BM * (negatives_BM - margin)
    return F.softplus(positive_logits_B + negative_logits_BM.logsumexp(1)).mean()


# ------------------------------------------------------------------------------------------------------------ RefCOCO+


class RegionScoreHead(TaskHead):
    """One score for each image row: does the expression mean this region?"""

    released: ClassVar[Mapping[str, str]] = {
        "output.weight": "cls_seq_label_vl_out_w",
        "output.bias": "cls_seq_label_vl_out_b",
    }

    def __init__(self, config: ModelConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(config.v_hidden_size, 1)
        initialize(self, config.initializer_range)

    def forward(self, encoded: ErnieViLOutput) -> Tensor:
        """Returns float [B, R], the log-odds of each row."""
        scores_BR: Tensor = self.output(self.dropout(encoded.image)).squeeze(2)
        return scores_BR


def compute_region_loss(scores_BR: Tensor, overlaps_BR: Tensor, mask_BR: Tensor) -> Tensor:
    """Returns the sigmoid cross-entropy with soft targets, summed over the rows that are not padding: a scalar.

    Args:
        scores_BR: float [B, R].
        overlaps_BR: float [B, R], intersection over union with the box that is meant, or 0 where it is below 0.5.
        mask_BR: bool [B, R], False in padding. Row 0 counts as well.
    """
    return F.binary_cross_entropy_with_logits(scores_BR[mask_BR], overlaps_BR[mask_BR], reduction="sum")
