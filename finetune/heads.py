"""The heads and losses of the downstream tasks, as the released fine-tuning has them.

Every head maps the encoder's output to scores, so a loss sees scores and labels alone. ``released`` names a head's
parameters in released checkpoints, where a weight is stored [in, out].

Shape suffixes: B samples, N pairs of a text and an image, C choices of a question, A answers, R image rows (row 0 is
the whole image), G pairs of a retrieval group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.model.config import ModelConfig
from pretrain.model.encoder import ErnieViLOutput, initialize
from pretrain.model.heads import MatchHead


class TaskHead(nn.Module):
    """What all heads have in common."""

    released: ClassVar[Mapping[str, str]] = {}
    """the released name of each parameter; empty for the head of a task that was not released"""


# ----------------------------------------------------------------------------------------------------------------- VCR


class VcrHead(TaskHead):
    """A score for each choice of Q→A and one for each choice of QA→R.

    Both sub-tasks are trained together, one of them per batch. Both are scored for every batch: the idle one then has
    gradients of zero, so that momentum and weight decay reach it as in the released joint training.
    """

    released: ClassVar[Mapping[str, str]] = {
        "qa.output.weight": "vcr_qa_fc.w_0",
        "qa.output.bias": "vcr_qa_fc.b_0",
        "qar.output.weight": "vcr_qar_fc.w_0",
        "qar.output.bias": "vcr_qar_fc.b_0",
    }

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.qa = MatchHead(config.co_hidden_size, config.attention_probs_dropout_prob)
        self.qar = MatchHead(config.co_hidden_size, config.attention_probs_dropout_prob)
        initialize(self, config.initializer_range)

    def forward(self, encoded: ErnieViLOutput) -> tuple[Tensor, Tensor]:
        """Return float [N] of Q→A and float [N] of QA→R; the choices of a question are N / B pairs in a row."""
        pooled = encoded.pooled_text, encoded.pooled_image
        return self.qa(*pooled), self.qar(*pooled)


def choice_loss(scores_BC: Tensor, answers_B: Tensor, form: Literal["sigmoid", "softmax"] = "sigmoid") -> Tensor:
    """Cross-entropy of the right choice, summed over questions; a scalar.

    Args:
        scores_BC: float [B, C].
        answers_B: int64 [B], the index of the right choice.
        form: ``sigmoid`` asks of every choice alone whether it is right, averaged over all choices, as the released
            training does; ``softmax`` lets the choices of a question compete, as its evaluation does.
    """
    if form == "softmax":
        return F.cross_entropy(scores_BC, answers_B, reduction="sum")
    right_BC = F.one_hot(answers_B, scores_BC.shape[1]).to(scores_BC.dtype)
    return F.binary_cross_entropy_with_logits(scores_BC, right_BC, reduction="sum") / scores_BC.shape[1]


# ----------------------------------------------------------------------------------------------------------------- VQA


class VqaHead(TaskHead):
    """Scores of all answers, from the product of the pooled vectors through one hidden layer."""

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
        """Return float [B, A], log-odds of each answer."""
        fused = self.fused_dropout(encoded.pooled_text * encoded.pooled_image)
        scores_BA: Tensor = self.output(self.hidden_dropout(F.relu(self.hidden(fused))))
        return scores_BA


def answer_loss(scores_BA: Tensor, targets_BA: Tensor) -> Tensor:
    """Sigmoid cross-entropy with soft targets, summed over answers and samples; a scalar.

    Args:
        scores_BA: float [B, A].
        targets_BA: float [B, A], between 0 and 1: how far each answer counts as right.
    """
    return F.binary_cross_entropy_with_logits(scores_BA, targets_BA, reduction="sum")


# ----------------------------------------------------------------------------------------------------------- retrieval


class RetrievalHead(TaskHead):
    """One score for a caption and an image, without dropout: a pretrained matching head fits as it is."""

    released: ClassVar[Mapping[str, str]] = {"match.output.weight": "match_fc.w_0", "match.output.bias": "match_fc.b_0"}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.match = MatchHead(config.co_hidden_size, dropout=0.0)
        nn.init.xavier_uniform_(self.match.output.weight)
        nn.init.uniform_(self.match.output.bias, -1, 1)

    def forward(self, encoded: ErnieViLOutput) -> Tensor:
        """Return float [N], the higher the better they match."""
        scores_N: Tensor = self.match(encoded.pooled_text, encoded.pooled_image)
        return scores_N


def retrieval_loss(scores_BG: Tensor, *, margin: float = 0.3, scale: float = 32.0) -> Tensor:
    """Circle loss of each true pair against two halves of false ones, averaged over halves and samples; a scalar.

    The halves are what the batch makes of them. The paper replaces the image in one and the caption in the other; the
    released schema replaces the image in both, and its script leaves the scale at 1.

    Args:
        scores_BG: float [B, G], raw scores: the true pair, then the false pairs, of which the first (G - 1) // 2 are
            the first half.
        margin: of the loss, on scores between 0 and 1.
        scale: of the loss.
    """
    positives_B, negatives = scores_BG.sigmoid()[:, 0], scores_BG.sigmoid()[:, 1:]
    halves = negatives.tensor_split((negatives.shape[1] // 2,), dim=1)
    return torch.stack([circle_loss(positives_B, half, margin, scale) for half in halves]).mean()


def circle_loss(positives_B: Tensor, negatives_BM: Tensor, margin: float, scale: float) -> Tensor:
    """Circle loss (arXiv 2002.10857, equation 8) with one positive each, averaged over samples; a float64 scalar.

    Args:
        positives_B: float [B], similarities between 0 and 1.
        negatives_BM: float [B, M].
        margin: negatives are pushed below it and positives above 1 - margin.
        scale: how sharply the worst pairs outweigh the others.
    """
    positives_B, negatives_BM = positives_B.double(), negatives_BM.double()
    positive_weights_B = (1 + margin - positives_B).clamp(min=0).detach()
    negative_weights_BM = (negatives_BM + margin).clamp(min=0).detach()
    positive_logits_B = -scale * positive_weights_B * (positives_B - (1 - margin))
    negative_logits_BM = scale * negative_weights_BM * (negatives_BM - margin)
    return F.softplus(positive_logits_B + negative_logits_BM.logsumexp(1)).mean()


# ------------------------------------------------------------------------------------------------------------ RefCOCO+


class RegionHead(TaskHead):
    """A score for each image row: does the expression mean this region?"""

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
        """Return float [B, R], log-odds of each row."""
        scores_BR: Tensor = self.output(self.dropout(encoded.image)).squeeze(2)
        return scores_BR


def region_loss(scores_BR: Tensor, overlaps_BR: Tensor, mask_BR: Tensor) -> Tensor:
    """Sigmoid cross-entropy with soft targets, summed over real rows; a scalar.

    Args:
        scores_BR: float [B, R].
        overlaps_BR: float [B, R], intersection over union with the region that is meant; 0 where it is below 0.5.
        mask_BR: bool [B, R], True for real rows, row 0 among them.
    """
    return F.binary_cross_entropy_with_logits(scores_BR[mask_BR], overlaps_BR[mask_BR], reduction="sum")


HEADS: Mapping[str, type[TaskHead]] = {
    "vcr": VcrHead,
    "vqa": VqaHead,
    "retrieval": RetrievalHead,
    "refcoco_plus": RegionHead,
}
"""The head of each task; no two have the same parameter names."""
