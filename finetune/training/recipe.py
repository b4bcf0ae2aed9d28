"""What a fine-tuning run is made of: one YAML file for each task and model size."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import Field

from finetune.task import Settings
from finetune.training.optimization import Optimizer
from pretrain.training.settings import Positive, TrainingRecipe

S = TypeVar("S", bound=Settings)


class Recipe(TrainingRecipe, Generic[S]):
    """A fine-tuning run of the task whose settings it has."""

    train: Annotated[tuple[str, ...], Field(min_length=1)]
    """the splits to train on"""
    dev: str | None = None
    """the split to evaluate on"""
    task: S
    optimizer: Optimizer
    batch_size: Positive
    """samples in a global batch, over all ranks and accumulation steps"""
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """of the encoder, where it shall differ from that of the pretrained model"""
