"""Scores a model on held-out shards, with masks that are the same in every evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pretrain.batches import Batch, Collator, Steps
from pretrain.heads import PretrainingOutput
from pretrain.objectives import OBJECTIVES, TEXT, score
from pretrain.order import BatchPlan
from pretrain.recipe import Images, Recipe
from pretrain.training.loader import StepLoader
from shards.reader import ShardSet

Model = Callable[..., PretrainingOutput]
SEED = 1_000_003
"""The masks of evaluations, whatever the seed of the run."""


@dataclass(frozen=True)
class Result:
    """One objective on held-out data."""

    loss: float
    accuracy: float
    targets: int
    guess_loss: float
    """the loss of always predicting how often each answer occurs, fitted to these very targets"""
    guess_accuracy: float
    """the accuracy of always predicting the most frequent answer"""

    def to_dict(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: Model,
    shards: ShardSet,
    recipe: Recipe,
    *,
    images: Images,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
    all_reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> dict[str, Result]:
    """The results of all objectives that have targets. The model must be in evaluation mode.

    With images that are not their own, only the text is scored: ``other`` asks what the image adds.
    """
    plan = BatchPlan(
        shards,
        seed=SEED,
        batch_size=recipe.batch_size,
        block_shards=recipe.block_shards,
        mismatch=recipe.masking.mismatch if images == "own" else 0.0,
    )
    collator = Collator(
        shards,
        seed=SEED,
        max_text=recipe.max_text,
        masking=recipe.masking,
        images=images,
        device_type=device.type,
    )
    steps = range(min(recipe.evaluate_steps, plan.steps_per_epoch))
    loaded = StepLoader(Steps(plan, collator, rank=rank, ranks=ranks, accumulation=1), steps, workers=0)
    classes = shards.manifest.classes.count or 0
    totals = torch.zeros(3, len(OBJECTIVES), dtype=torch.float64, device=device)
    guesses = _Guesses(shards.manifest.tokenizer.size, classes, device)
    for (cpu_batch,) in loaded:
        batch = cpu_batch.to(device)
        scores = score(model(**batch.inputs()), batch)
        totals += torch.stack([scores.loss, scores.correct, scores.count])
        guesses.add(batch)
    guess_loss, guess_accuracy = guesses.scores(all_reduce)
    loss, correct, count = all_reduce(totals)
    scored = OBJECTIVES if images == "own" else OBJECTIVES[:TEXT]
    return {
        name: Result(
            loss=float(loss[i] / count[i]),
            accuracy=float(correct[i] / count[i]),
            targets=int(count[i]),
            guess_loss=float(guess_loss[i]),
            guess_accuracy=float(guess_accuracy[i]),
        )
        for i, name in enumerate(OBJECTIVES)
        if name in scored and count[i] > 0
    }


class _Guesses:
    """How well one does without looking, by the frequencies of the answers."""

    def __init__(self, vocabulary: int, classes: int, device: torch.device) -> None:
        self._words = torch.zeros(TEXT, vocabulary, dtype=torch.float64, device=device)
        self._classes = torch.zeros(classes + 1, dtype=torch.float64, device=device)  # the last one is "other"
        self._best = torch.zeros(classes + 1, dtype=torch.float64, device=device)
        self._entropy = torch.zeros(1, dtype=torch.float64, device=device)
        self._match = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, batch: Batch) -> None:
        self._words.index_put_(
            (batch.text_kinds, batch.text_labels), torch.ones((), device=self._words.device).double(), accumulate=True
        )
        probabilities = batch.region_class_probs.double()
        self._classes.index_add_(0, batch.region_class_ids.flatten(), probabilities.flatten())
        other = (1 - probabilities.sum(1)).clamp(min=0)
        self._classes[-1] += other.sum()
        self._entropy -= torch.xlogy(probabilities, probabilities).sum() + torch.xlogy(other, other).sum()
        if batch.region_class_ids.shape[1]:
            self._best += torch.bincount(batch.region_class_ids[:, 0], minlength=len(self._best))
        self._match += torch.stack([(1 - batch.matched).sum(), batch.matched.sum()]).double()

    def scores(self, all_reduce: Callable[[Tensor], Tensor]) -> tuple[list[float], list[float]]:
        """Loss and accuracy of the guess for each objective."""
        losses, accuracies = [], []
        for counts in (*all_reduce(self._words),):
            losses.append(_entropy(counts))
            accuracies.append(float(counts.max() / counts.sum().clamp(min=1)))
        mass, best, entropy = all_reduce(self._classes), all_reduce(self._best), all_reduce(self._entropy)
        regions = float(best.sum().clamp(min=1))
        losses.append(_entropy(mass) - float(entropy) / regions)
        accuracies.append(float(best.max()) / regions)
        match = all_reduce(self._match)
        losses.append(_entropy(match))
        accuracies.append(float(match.max() / match.sum().clamp(min=1)))
        return losses, accuracies


def _entropy(counts: Tensor) -> float:
    share = counts / counts.sum().clamp(min=1e-12)
    return float(-torch.xlogy(share, share).sum())
