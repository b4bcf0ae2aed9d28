"""What a pretraining run is made of: a YAML file, checked before anything starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from parsers.command import InputError
from pretrain.model.config import ModelConfig, RegionTarget
from pretrain.training.settings import OptimizerSection, Positive, Probability, Section, TrainingRecipe
from shards.reader import ShardSet
from shards.schema import ClassKind

OBJECTIVES = ("object", "attribute", "relation", "word", "region", "match")
"""What is learned at once."""
Weight = Annotated[float, Field(ge=0)]
Passes = Annotated[float, Field(ge=0.01, le=100)]
ShownImage = Literal["own", "other", "none"]
"""Which image a caption is shown with: its own, that of another pair of the batch, or none (text only)."""


REGION_TARGETS: dict[ClassKind, tuple[RegionTarget, ...]] = {
    "distribution": ("distribution", "argmax", "features"),
    "top-k": ("distribution", "argmax", "features"),
    "argmax": ("argmax", "features"),
    "none": ("features",),
}
"""What can be predicted where shards have this class information."""


class Masking(Section):
    """What is hidden. The defaults are the paper's (section 3.3)."""

    object: Probability = 0.3
    """share of the objects of a caption's scene graph"""
    attribute: Probability = 0.3
    relation: Probability = 0.3
    word: Probability = 0.15
    """share of the word pieces that belong to no node of a kind that is taken: of all pieces, as in BERT, if none is"""
    region: Probability = 0.15
    mismatch: Probability = 0.5
    """share of pairs whose caption comes from another image; nothing is masked in them"""
    spans: Literal["nodes", "random"] = "nodes"
    """`random` hides as many spans, as long as the nodes that would be, but on any words: a control for scene graphs"""
    overlap: Annotated[float, Field(gt=0, lt=1)] | None = None
    """hide regions that overlap a hidden one by a higher intersection over union, too; ViLBERT has 0.4"""

    @property
    def nodes(self) -> tuple[float, float, float]:
        """The shares of the kinds of nodes."""
        return self.object, self.attribute, self.relation


class ObjectiveWeights(Section):
    """The weight of each objective in the loss. 0 switches it off: nothing is hidden for it, either."""

    object: Weight = 1.0
    attribute: Weight = 1.0
    relation: Weight = 1.0
    word: Weight = 1.0
    region: Weight = 1.0
    match: Weight = 1.0
    """0: every pair matches"""


class PretrainOptimizer(OptimizerSection):
    """AdamW and its learning rate over time."""

    schedule: Literal["linear", "noam", "constant"] = "linear"
    """after the warm-up: linear to 0 at the last step, or with the inverse square root of the step (Noam)"""
    betas: tuple[float, float] = (0.9, 0.999)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "linear":
            return self.learning_rate * (steps - step) / max(1, steps - self.warmup_steps)
        if self.schedule == "noam":
            return self.learning_rate * math.sqrt(max(1, self.warmup_steps) / (step + 1))
        return self.learning_rate


class PretrainRecipe(TrainingRecipe):
    """A pretraining run."""

    model: Path
    """model size: a JSON file; vocabulary, feature and class sizes follow the shards"""
    batch_size: Positive | None = None
    """pairs in a global batch, over all ranks and accumulation steps"""
    tokens: Positive | None = None
    """instead of ``batch_size``: text positions and image rows in a global batch that are no padding, on average over
    the shards; batches of long pairs have fewer of them"""
    passes: tuple[Passes, ...] = ()
    """how often an epoch passes over each set of shards, in the order of ``--shards``; 0.5: half of the set in one
    epoch, the other half in the next. Rounded to a fraction of at most 100ths. Empty: once over each"""
    max_text: Annotated[int, Field(ge=3)] = 64
    """positions of a text with [CLS] and [SEP]s; longer ones are cut (see `pretrain.data.masking.lay_out`)"""
    block_shards: Positive = 8
    """shards that are shuffled together"""
    images: ShownImage = "own"
    """`none` trains on the text alone"""
    masking: Masking = Masking()
    weights: ObjectiveWeights = ObjectiveWeights()
    region_target: RegionTarget = "distribution"
    """what is predicted of a masked region; the shards must have it"""
    optimizer: PretrainOptimizer = PretrainOptimizer()
    evaluate_steps: Positive = 50
    """batches of an evaluation, at most"""

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if (self.batch_size is None) == (self.tokens is None):
            raise ValueError("give one of batch_size (pairs) and tokens (text positions and image rows)")
        return self

    @property
    def active_weights(self) -> ObjectiveWeights:
        """The weights, without those of regions and matches where there are no images."""
        return self.weights if self.images == "own" else self.weights.model_copy(update={"region": 0.0, "match": 0.0})

    @property
    def active_masking(self) -> Masking:
        """What is hidden for the objectives that have a weight."""
        off = [objective for objective, weight in self.active_weights if weight == 0]
        return self.masking.model_copy(update={"mismatch" if name == "match" else name: 0.0 for name in off})


def check_region_target(recipe: PretrainRecipe, shards: ShardSet) -> None:
    """Raises InputError if the shards lack what the recipe predicts of masked regions."""
    kind = shards.manifest.classes.kind
    possible = REGION_TARGETS[kind]
    if recipe.active_masking.region > 0 and recipe.region_target not in possible:
        raise InputError(
            f"{shards.location}: region_target {recipe.region_target} cannot be had from class information of the kind "
            f"{kind}; set region_target to {' or '.join(possible)}, or weights.region to 0"
        )


def model_config(recipe: PretrainRecipe, shards: ShardSet) -> ModelConfig:
    """The recipe's model size with the vocabulary, features and classes of the shards.

    Raises:
        InputError: the recipe does not fit the shards or its model size.
    """
    check_region_target(recipe, shards)
    manifest = shards.manifest
    update: dict[str, Any] = {
        "vocab_size": manifest.tokenizer.size,
        "v_feature_size": manifest.feature_size,
        "region_target": recipe.region_target,
        "max_text": recipe.max_text,
    }
    if manifest.classes.count is not None:
        update["class_size"] = manifest.classes.count
    config = ModelConfig.load(recipe.model).model_copy(update=update)
    if recipe.max_text > config.max_position_embeddings:
        raise InputError(
            f"max_text {recipe.max_text} is more than the {config.max_position_embeddings} positions of {recipe.model}"
        )
    return config
