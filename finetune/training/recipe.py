"""The recipe of a fine-tuning run: one YAML file for each task and model size."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, create_model

from finetune.task import TaskSettings
from finetune.training.optimization import FineTuneOptimizer
from pretrain.training.settings import Positive, TrainingRecipe


class FineTuneRecipe(TrainingRecipe):
    """A fine-tuning run. `for_task` makes the recipe type of a task."""

    train: Annotated[tuple[str, ...], Field(min_length=1)]
    """the splits to train on"""
    dev: str | None = None
    """the split to evaluate on"""
    task: TaskSettings
    optimizer: FineTuneOptimizer
    batch_size: Positive
    """examples of a global batch, over all ranks and accumulation steps"""
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """dropout of the encoder's states; by default that of the pretrained model"""

    @classmethod
    def for_task(cls, settings_type: type[TaskSettings]) -> type[Self]:
        """Returns the recipe type whose section ``task`` has the settings of a task."""
        return create_model(cls.__name__, __base__=cls, task=(settings_type, ...))
