"""What a pretraining run is made of: a YAML file, checked before anything starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pretrain.config import ModelConfig
from pretrain.training.recipe import OptimizerSection, Positive, Probability, Section, TrainingRecipe
from shards.errors import InputError
from shards.reader import ShardSet

Weight = Annotated[float, Field(ge=0)]
Images = Literal["own", "other", "none"]
"""Which image a caption is shown with: its own, that of another pair of the batch, or none (text only)."""


class Masking(Section):
    """What is hidden. The defaults are the paper's (section 3.3)."""

    node: Probability = 0.3
    """share of the objects, of the attributes and of the relations"""
    word: Probability = 0.15
    """share of the word pieces that belong to no node"""
    region: Probability = 0.15
    mismatch: Probability = 0.5
    """share of pairs whose caption comes from another image; nothing is masked in them"""


class Weights(Section):
    """The weight of each objective in the loss; 0 switches it off."""

    object: Weight = 1.0
    attribute: Weight = 1.0
    relation: Weight = 1.0
    word: Weight = 1.0
    region: Weight = 1.0
    match: Weight = 1.0


class Optimizer(OptimizerSection):
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


class Recipe(TrainingRecipe):
    """A pretraining run."""

    model: Path
    """model size: a JSON file; vocabulary, feature and class sizes follow the shards"""
    max_text: Annotated[int, Field(ge=3)] = 64
    """word pieces of a caption with [CLS] and [SEP]; longer ones are cut"""
    block_shards: Positive = 8
    """shards that are shuffled together"""
    images: Images = "own"
    """`none` trains on the text alone"""
    masking: Masking = Masking()
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer()
    evaluate_steps: Positive = 50
    """batches of an evaluation, at most"""


def model_config(recipe: Recipe, shards: ShardSet) -> ModelConfig:
    """The recipe's model size with the vocabulary, features and classes of the shards."""
    manifest = shards.manifest
    update = {"vocab_size": manifest.tokenizer.size, "v_feature_size": manifest.feature_size}
    if manifest.classes.count is not None:
        update["class_size"] = manifest.classes.count
    config = ModelConfig.load(recipe.model).model_copy(update=update)
    if recipe.max_text > config.max_position_embeddings:
        raise InputError(
            f"max_text {recipe.max_text} is more than the {config.max_position_embeddings} positions of {recipe.model}"
        )
    return config
