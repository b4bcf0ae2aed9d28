"""Scores a model on held-out shards, with masks that are the same in every evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretrain.data.batches import Collator, PretrainBatch, StepDataset
from pretrain.data.order import BatchPlan, pairs_per_batch
from pretrain.model.heads import PretrainingOutput
from pretrain.objectives import TEXT, score
from pretrain.recipe import OBJECTIVES, PretrainRecipe, ShownImage, model_config
from pretrain.training.loader import StepLoader
from shards.random_numbers import EVALUATION_SEED
from shards.sample_reader import SampleReader

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

Model = Callable[..., PretrainingOutput]


@dataclass(frozen=True)
class Result:
    """One objective on held-out data."""

    loss: float
    accuracy: float | None
    """None where features are predicted: these are not right or wrong"""
    targets: int
    guess_loss: float
    """the loss of always predicting how often each answer occurs (of features: the mean), fitted to these very targets:
    no guess that does not look at its pair has a lower one"""
    guess_accuracy: float | None
    """the accuracy of always predicting the most frequent answer"""

    def to_dict(self) -> dict[str, float]:
        """Returns the values by name, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@torch.no_grad()
def evaluate(
    model: Model,
    shards: SampleReader,
    recipe: PretrainRecipe,
    *,
    images: ShownImage,
    world: DistributedContext,
) -> dict[str, Result]:
    """Returns the results of all objectives that have targets.

    Where a caption is shown with another image or none, only the text is scored; this tells what its own image adds.

    Args:
        model: in evaluation mode, on ``device``.
        shards: the held-out data.
        recipe: says what is hidden and how; its seed has no effect.
        images: which image a caption is shown with, whatever the recipe says.
        world: the ranks, which share the evaluation.

    Raises:
        InputError: the shards lack what the recipe predicts.
        CollectiveError: a rank cannot read its share of the shards.
    """
    recipe = recipe.model_copy(update={"images": images})
    classes = model_config(recipe, shards).class_size
    plan = BatchPlan(
        shards,
        seed=EVALUATION_SEED,
        batch_size=pairs_per_batch(recipe, shards),
        block_shards=recipe.block_shards,
        mismatch=recipe.active_masking.mismatch,
        negatives=recipe.negatives,
    )
    collator = Collator(
        shards,
        seed=EVALUATION_SEED,
        max_text=recipe.max_text,
        masking=recipe.active_masking,
        region_target=recipe.region_target,
        images=images,
        device_type=world.device.type,
        token_match=recipe.active_weights.token_match > 0,
    )
    steps = range(min(recipe.evaluate_steps, plan.steps_per_epoch))
    dataset = StepDataset(plan, collator, rank=world.rank, ranks=world.size, accumulation=1)
    loaded = StepLoader(dataset, steps, workers=0)
    totals = torch.zeros(3, len(OBJECTIVES), dtype=torch.float64, device=world.device)
    guesses = _Guesses(shards.tokenizer.size, classes, shards.feature_size, world.device)
    for _ in steps:
        (cpu_batch,) = world.together(loaded.__next__)
        batch = cpu_batch.to(world.device)
        scores = score(model(**batch.inputs()), batch)
        totals += torch.stack([scores.loss, scores.correct, scores.count])
        guesses.add(batch)
    guess_loss, guess_accuracy = guesses.scores(world.all_reduce)
    loss, correct, count = world.all_reduce(totals)
    scored = OBJECTIVES if images == "own" else OBJECTIVES[:TEXT]
    return {
        name: Result(
            loss=float(loss[i] / count[i]),
            accuracy=_number(correct[i] / count[i]),
            targets=int(count[i]),
            guess_loss=float(guess_loss[i]),
            guess_accuracy=_number(guess_accuracy[i]),
        )
        for i, name in enumerate(OBJECTIVES)
        if name in scored and count[i] > 0
    }


def format_share(share: float | None) -> str:
    """Formats a share for a table."""
    return "–" if share is None else f"{share:.1%}"


def _number(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


class _Guesses:
    """Scores of a guess that does not look at its input but knows the frequencies of answers and the mean feature."""

    def __init__(self, vocabulary: int, classes: int, feature_size: int, device: torch.device) -> None:
        self._words = torch.zeros(TEXT, vocabulary, dtype=torch.float64, device=device)
        self._classes = torch.zeros(classes + 1, dtype=torch.float64, device=device)  # the last one is "other"
        self._best = torch.zeros(classes + 1, dtype=torch.float64, device=device)
        self._entropy = torch.zeros(1, dtype=torch.float64, device=device)
        self._features = torch.zeros(3, feature_size, dtype=torch.float64, device=device)  # 0th to 2nd power
        self._answers = torch.zeros(2, 2, dtype=torch.float64, device=device)  # of pairs and of words; no and yes

    def add(self, batch: PretrainBatch) -> None:
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
        if batch.region_features.shape[1]:
            self._features += torch.stack([(batch.region_features.double() ** power).sum(0) for power in range(3)])
        for counts, answers in zip(
            self._answers, (batch.matched.index_select(0, batch.match_targets), batch.token_labels), strict=True
        ):
            counts += torch.stack([(1 - answers).sum(), answers.sum()]).double()

    def scores(self, all_reduce: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Returns loss and accuracy of the guess for each objective, float64 [7] each."""
        guesses = [(_entropy(counts), _share_of_largest(counts)) for counts in all_reduce(self._words)]
        mass, best, entropy = all_reduce(self._classes), all_reduce(self._best), all_reduce(self._entropy)
        count, total, squares = all_reduce(self._features)
        if bool(count.any()):
            guesses.append(((squares / count - (total / count) ** 2).mean(), count.new_tensor(torch.nan)))
        else:
            divergence = _entropy(mass) - entropy[0] / best.sum().clamp(min=1)
            guesses.append((divergence, _share_of_largest(best)))
        guesses += [(_entropy(counts), _share_of_largest(counts)) for counts in all_reduce(self._answers)]
        losses, shares = zip(*guesses, strict=True)
        return torch.stack(losses), torch.stack(shares)


def _entropy(counts: Tensor) -> Tensor:
    share = counts / counts.sum().clamp(min=1e-12)
    return -torch.xlogy(share, share).sum()


def _share_of_largest(counts: Tensor) -> Tensor:
    return counts.max() / counts.sum().clamp(min=1)
