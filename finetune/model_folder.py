"""Fine-tuned models as folders: those of pretraining, and ``task.json`` with the task and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from finetune.task import FineTuned, Task
from finetune.tasks import task_type
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS
from pretrain.model.folder import export
from shards.storage.files import read_json, write_json
from shards.storage.weights import load_weights, read_weights, start_from_weights

TASK = "task.json"
BEST, LAST = "best", "model"


def fine_tuned_folder(path: Path) -> Path:
    """The folder of the fine-tuned model that is meant: itself, or the best or else the last one of the run there.

    Raises:
        InputError: it is neither.
    """
    for folder in (path, path / BEST, path / LAST):
        if (folder / TASK).is_file():
            return folder
    raise InputError(f"{path}: neither a fine-tuned model (with {TASK}) nor a run of finetune/run.py that wrote one")


def save(
    weights: Mapping[str, Tensor], config: ModelConfig, vocabulary: bytes, task: Task[Any, Any], out: Path
) -> None:
    """Writes a fine-tuned model."""
    export(weights, config, vocabulary, out)
    write_json({"task": task.name, "settings": task.settings.model_dump(mode="json")}, out / TASK)


def load_task(folder: Path, name: str) -> Task[Any, Any]:
    """The task of a fine-tuned model.

    Raises:
        InputError: it was fine-tuned on another one.
    """
    record = read_json(folder / TASK)
    try:
        found, settings = record["task"], record["settings"]
        if found != name:
            raise InputError(f"{folder} was fine-tuned on {found}, not on {name}")
        chosen = task_type(name)
        return chosen(chosen.settings_type.model_validate(settings))
    except (KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{folder / TASK}: is no record of a task: {error}") from error


def load(folder: Path, task: Task[Any, Any]) -> FineTuned:
    """A fine-tuned model in evaluation mode.

    Raises:
        InputError: the weights are missing or do not fit.
    """
    config = ModelConfig.load(folder / CONFIG)
    model = FineTuned(config, task.make_head(config))
    load_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval()


def start_from(folder: Path, model: FineTuned) -> list[str]:
    """Copies the encoder of a folder into a model, and what fits of its head if it has one.

    Returns:
        The parameters of the model's head that keep their random values.

    Raises:
        InputError: the encoder does not fit.
    """
    path = folder / WEIGHTS
    advice = f"{folder / CONFIG} belongs to other weights"
    return start_from_weights(model, read_weights(path), path, required=ENCODER, advice=advice)
