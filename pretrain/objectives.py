"""The objectives: their losses, and how many targets are predicted right.

A loss is a sum over its targets. The trainer divides it by the number of targets in the global batch, so it does not
depend on how a batch is split over ranks and micro-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.batches import PretrainBatch
from pretrain.model.heads import PretrainingOutput
from pretrain.training.workload import Scores

TEXT = 4
"""The first four of `pretrain.recipe.OBJECTIVES` are the kinds of text targets (see `pretrain.data.masking`)."""


def count_targets(batch: PretrainBatch) -> Tensor:
    """Counts the targets of each objective, float64 [7]."""
    # Neither `bincount`, nor a tensor made of these numbers, nor an assignment: on a GPU, the process waits for each.
    counts = torch.zeros(TEXT + 3, dtype=torch.float64, device=batch.text_kinds.device)
    counts.index_add_(0, batch.text_kinds, torch.ones_like(batch.text_kinds, dtype=torch.float64))
    counts[TEXT].fill_(len(batch.region_targets))
    counts[TEXT + 1].fill_(len(batch.match_targets))
    counts[TEXT + 2].fill_(len(batch.token_targets))
    return counts


def score(output: PretrainingOutput, batch: PretrainBatch) -> Scores:
    """Returns losses and right predictions of a micro-batch. ``loss`` carries the gradient."""
    words = F.cross_entropy(output.vocabulary_logits.float(), batch.text_labels, reduction="none")
    words_right = output.vocabulary_logits.argmax(-1) == batch.text_labels
    regions, regions_right = _score_regions(output.regions.float(), batch)
    asked = output.match_logits.float().index_select(0, batch.match_targets)
    match, match_right = _score_answers(asked, batch.matched.index_select(0, batch.match_targets))
    tokens, tokens_right = _score_answers(output.token_logits.float(), batch.token_labels)

    def by_objective(words: Tensor, *others: Tensor) -> Tensor:
        kinds = torch.zeros(TEXT, dtype=torch.float64, device=words.device)
        kinds = kinds.index_add(0, batch.text_kinds, words.double())
        return torch.cat([kinds, *(other.double().sum()[None] for other in others)])

    return Scores(
        loss=by_objective(words, regions, match, tokens),
        correct=by_objective(words_right, regions_right, match_right, tokens_right),
        count=count_targets(batch),
    )


def _score_answers(logits: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Returns loss and right predictions of questions whose answers are 1 or 0."""
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return loss, (logits > 0) == (answers > 0.5)


def _score_regions(predicted: Tensor, batch: PretrainBatch) -> tuple[Tensor, Tensor]:
    """Returns loss and right predictions by region. A predicted feature is not right or wrong, so these are NaN."""
    if batch.region_features.shape[1]:
        error = F.mse_loss(predicted, batch.region_features, reduction="none").mean(1)
        return error, torch.full_like(error, torch.nan)
    most_likely = batch.region_class_ids[:, :1].sum(1)  # without targets there are no columns
    divergence = class_divergence(predicted, batch.region_class_ids, batch.region_class_probs)
    return divergence, predicted.argmax(-1) == most_likely


def class_divergence(logits: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
    """Returns the Kullback-Leibler divergence of the predicted from the detector's class distribution, by region.

    Where only the k most likely classes are known, all others are one further class on both sides.

    Args:
        logits: float [M, classes].
        ids: int64 [M, k], different classes in a row.
        probabilities: float [M, k].

    Returns:
        float [M].
    """
    k = ids.shape[1]
    if len(logits) == 0 or k == 0:
        return logits.sum(-1) * 0
    predicted = logits.log_softmax(-1)
    listed = predicted.gather(1, ids)
    if k == logits.shape[1]:
        probabilities = probabilities / probabilities.sum(1, keepdim=True)
    else:
        hidden = torch.zeros_like(predicted, dtype=torch.bool).scatter(1, ids, True)
        other = predicted.masked_fill(hidden, -torch.inf).logsumexp(1, keepdim=True)
        listed = torch.cat([listed, other], dim=1)
        probabilities = torch.cat([probabilities, (1 - probabilities.sum(1, keepdim=True)).clamp(min=0)], dim=1)
    divergence: Tensor = (torch.xlogy(probabilities, probabilities) - probabilities * listed).sum(1)
    return divergence
