"""What every training run is made of: a YAML file, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from parsers.command import InputError

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]

REDUCE_BUCKET_ELEMENTS = 50_000_000
"""Gradients that ZeRO exchanges at once, through a buffer. DeepSpeed's half a billion take a gigabyte in bf16."""


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OptimizerSection(Section):
    """What every optimiser has; a subclass says how the learning rate goes."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """at its highest"""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    """largest global norm of the gradient"""

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, in a run of ``steps`` steps."""
        raise NotImplementedError


class Best(Section):
    """Which evaluation is the best so far; its model is kept in the run's ``best/``."""

    metric: str
    """as in ``metrics.jsonl``, e.g. ``held-out/loss/object``"""
    mode: Literal["min", "max"]
    patience: Annotated[int, Field(ge=0)] = 0
    """stop after so many evaluations in a row without a better one; 0 never stops early"""


class Profile(Section):
    """Steps that are watched by PyTorch's profiler; see `pretrain.training.profiling`."""

    start: Annotated[int, Field(ge=0)] = 20
    """the first of them, counted from 0; before it, kernels and caches are still warming up"""
    steps: Positive = 5


class TrainingRecipe(Section):
    """How long, how and on what hardware to train. Paths are relative to the recipe's own file."""

    steps: Positive | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    """length of the run: give one of the two"""
    seed: Annotated[int, Field(ge=0)] = 0
    optimizer: OptimizerSection

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 keeps fp32 master weights in the optimiser"""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """what ranks share out: 1 the optimiser's states, 2 the gradients too, 3 the weights too"""
    offload_optimizer: bool = False
    """keep the optimiser's states in the host's memory; needs ZeRO"""
    gradient_checkpointing: bool = False
    """compute the states inside a layer again in the backward pass instead of keeping them"""
    compile: bool = False
    """train with compiled code of the encoder, where it can be compiled; see `pretrain.model.compilation`"""
    accumulation: Positive = 1
    """micro-batches of a step"""
    workers: Annotated[int, Field(ge=0)] = 1
    """processes that read the data, for each rank"""

    log_every: Positive = 10
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    """0: only at the end"""
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 2
    average: Annotated[int, Field(ge=0)] = 0
    """at the end, write the mean of the weights of so many last checkpoints to the run's ``averaged/``"""
    best: Best | None = None
    skip_steps: frozenset[Annotated[int, Field(ge=0)]] = frozenset()
    """steps, counted from 0, whose batch is passed over: one that spoils a run. All other steps stay as they are"""
    norms: bool = False
    """log the norms of the gradients and activations of each layer; takes about a forward pass with every line"""
    profile: Profile | None = None
    """write a trace of some steps, and print what took longest in them"""
    stall_seconds: Annotated[float, Field(gt=0)] = 600.0
    """when no step, evaluation or checkpoint has ended for so long, all ranks print their stacks"""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """what a device can do in this precision, in TFLOP/s, to log the share that is reached; without it GPUs are
    measured with a matrix multiplication, and CPUs are not"""
    wandb_project: str | None = None
    """log to this project of Weights & Biases as well"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs a zero_stage of 1 or more")
        if self.average > self.keep_checkpoints:
            raise ValueError(f"average {self.average} needs keep_checkpoints of {self.average} or more")
        if self.compile and self.norms:
            raise ValueError("norms needs compile: false, because compiled code has no layers that could be watched")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """The steps of the run; a part of an epoch is rounded up to whole steps."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return -int(-self.epochs * steps_per_epoch // 1)

    @classmethod
    def load(cls, path: Path, settings: list[str]) -> Self:
        """Reads a recipe and changes it by ``key=value`` settings; nested keys are joined by dots.

        Raises:
            InputError: it cannot be read, or a key or value is wrong.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as a recipe: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: a recipe is a YAML mapping")
        for setting in settings:
            _set(values, setting)
        try:
            recipe = cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
            raise InputError(f"{path}: {problems}") from error
        paths = {name: (path.parent / value).resolve() for name, value in recipe if isinstance(value, Path)}
        return recipe.model_copy(update=paths)


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: expected key=value, e.g. optimizer.learning_rate=1e-4")
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {setting}: {name} is not a section")
    values[last] = yaml.safe_load(value)
