"""The recipe of a training run: a YAML file that is checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from parsers.command import InputError

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
RECIPES = Path(__file__).resolve().parents[2] / "configs"
"""The folder of the recipes that come with the project."""

REDUCE_BUCKET_ELEMENTS = 50_000_000
"""Gradients that ZeRO exchanges at once, through a buffer. DeepSpeed's default of half a billion takes 1 GB in bf16."""


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OptimizerSection(Section):
    """The settings of every optimiser. A subclass says how the learning rate goes."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """the highest learning rate"""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    """largest global norm of the gradient"""

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Returns the learning rate of a step, counted from 0, in a run of ``steps`` steps."""
        raise NotImplementedError


class Best(Section):
    """Which evaluation is the best. Its model is kept in the run's ``best/``."""

    metric: str
    """name of the metric in ``metrics.jsonl``, e.g. ``held-out/loss/object``"""
    mode: Literal["min", "max"]
    patience: Annotated[int, Field(ge=0)] = 0
    """stop after this number of evaluations in a row that were not the best; 0 never stops early"""


class Profile(Section):
    """Which steps PyTorch's profiler watches; see `pretrain.training.profiling`."""

    start: Annotated[int, Field(ge=0)] = 20
    """first step that is watched, counted from 0; in earlier ones kernels and caches warm up"""
    steps: Positive = 5


class TrainingRecipe(Section):
    """How long, how and on what hardware to train. Paths in a recipe are relative to its file."""

    steps: Positive | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    """length of the run in epochs; give either ``steps`` or ``epochs``"""
    seed: Annotated[int, Field(ge=0)] = 0
    optimizer: OptimizerSection

    precision: Literal["fp32", "bf16"] = "fp32"
    """type of weights and activations; with bf16 the optimiser keeps fp32 weights as well"""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """what is divided among the ranks: 1 the optimiser's states, 2 the gradients as well, 3 the weights as well"""
    offload_optimizer: bool = False
    """keep the optimiser's states in the host's memory; needs a ``zero_stage`` of 1 or more"""
    gradient_checkpointing: bool = False
    """compute the states inside a layer again in the backward pass instead of keeping them"""
    compile: bool = False
    """compile the encoder, if that is possible; see `pretrain.model.compilation`"""
    accumulation: Positive = 1
    """number of micro-batches that a rank divides its share of a batch into"""
    workers: Annotated[int, Field(ge=0)] = 1
    """processes of each rank that read the data"""

    log_every: Positive = 10
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    """steps between evaluations; with 0 there is only one, at the end"""
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 2
    average: Annotated[int, Field(ge=0)] = 0
    """at the end, write the mean weights of this number of last checkpoints to the run's ``averaged/``"""
    best: Best | None = None
    skip_steps: frozenset[Annotated[int, Field(ge=0)]] = frozenset()
    """steps, counted from 0, whose batches are passed over because they spoil the run; other steps stay as they are"""
    norms: bool = False
    """log the norms of gradients and activations of each layer; each line of the log takes a forward pass longer"""
    profile: Profile | None = None
    """write a trace of some steps, and print the operations that took longest in them"""
    stall_seconds: Annotated[float, Field(gt=0)] = 600.0
    """after this time without an end of a step, evaluation or checkpoint, all ranks print their stacks"""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """peak of a device in this precision, in TFLOP/s; the log has the share of it that is reached. By default a GPU is
    measured with a matrix multiplication, and the log of a CPU has no share"""
    wandb_project: str | None = None
    """project of Weights & Biases to log to as well"""

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
        """Returns the steps of the run; a part of an epoch is rounded up to whole steps."""
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
            values = _parse_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a recipe: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: a recipe is a YAML mapping")
        for setting in settings:
            _set(values, setting)
        try:
            recipe = cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(_explain(detail, cls) for detail in error.errors())
            raise InputError(f"{path}: {problems}") from error
        try:
            paths = {name: (path.parent / value).resolve() for name, value in recipe if isinstance(value, Path)}
        except ValueError as error:  # a path with a null character
            raise InputError(f"{path}: a value is no path: {error}") from error
        return recipe.model_copy(update=paths)


def find_recipe(config: str, kind: str) -> Path:
    """Returns the file of a recipe.

    Args:
        config: the name of a recipe of the project, such as ``tiny`` or ``ablation/words``, or a file.
        kind: the folder of such recipes below `RECIPES`.

    Raises:
        InputError: it is neither. The message names the recipe that is probably meant, or all of them.
    """
    folder = RECIPES / kind
    for path in (folder / f"{config}.yaml", Path(config)):
        if path.exists():
            return path
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    similar = get_close_matches(config, names, n=1) or get_close_matches(Path(config).stem, names, n=1)
    known = f"did you mean {similar[0]}?" if similar else f"recipes are {', '.join(names)}"
    raise InputError(f"--config {config}: neither a file nor the name of a recipe; {known}")


def _explain(detail: ErrorDetails, recipe: type[Section]) -> str:
    """Returns what is wrong with a key, and which one is probably meant if there is no such key."""
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] != "extra_forbidden":
        return f"{key}: {detail['msg']}".lstrip(": ")
    known = list(_list_keys(recipe))
    inside = [name for name in known if name.endswith(f".{key}")]
    similar = inside or get_close_matches(key, known, n=1)
    return f"{key}: there is no such key" + (f"; did you mean {similar[0]}?" if similar else "")


def _list_keys(section: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yields the keys of a section, and of the sections in it with dots."""
    for name, field in section.model_fields.items():
        yield before + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _list_keys(kind, f"{before}{name}.")


def _set(values: dict[str, object], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: expected key=value, e.g. optimizer.learning_rate=1e-4")
    *path, last = key.split(".")
    for name in path:
        section = values.setdefault(name, {})
        if not isinstance(section, dict):
            raise InputError(f"--set {setting}: {name} is not a section")
        values = section
    try:
        values[last] = _parse_yaml(value)
    except ValueError as error:
        raise InputError(f"--set {setting}: the value is no YAML: {error}") from error


def _parse_yaml(text: str) -> object:
    """The value of a YAML text.

    Raises:
        ValueError: it is not valid, is nested too deeply, or has a number or time that cannot be.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        # PyYAML checks the syntax; what is wrong with a value raises whatever Python raises when the value is made.
        raise ValueError(" ".join(f"{type(error).__name__}: {error}".split())) from error
