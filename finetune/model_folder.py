"""Fine-tuned models as folders: the files of a pretrained model, and ``task.json`` with the task and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from finetune.heads import FineTunedModel
from finetune.task import AnyTask
from parsers.checksums import check_file, write_checksums
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS
from pretrain.model.folder import export
from shards.regions.detector import DetectorRecord
from shards.storage.files import read_json, write_json
from shards.storage.weights import load_weights, read_weights, start_from_weights

T = TypeVar("T", bound=AnyTask)
TASK = "task.json"
BEST, LAST = "best", "model"


def find_fine_tuned(path: Path) -> Path:
    """Returns the folder of a fine-tuned model: ``path`` itself, or the best or else the last model of the run there.

    Raises:
        InputError: ``path`` is neither a model nor a run that wrote one.
    """
    for folder in (path, path / BEST, path / LAST):
        if (folder / TASK).is_file():
            return folder
    if any((folder / CONFIG).is_file() for folder in (path, path / LAST)):
        raise InputError(f"{path}: is not fine-tuned yet; run: ernie-vil finetune TASK --start {path} ...")
    raise InputError(f"{path}: neither a fine-tuned model (with {TASK}) nor a run of finetune/run.py that wrote one")


def save_fine_tuned(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    vocabulary: bytes,
    task: AnyTask,
    folder: Path,
    detector: DetectorRecord | None = None,
) -> None:
    """Writes a fine-tuned model.

    Args:
        weights: float32, the parameters of the `FineTunedModel` by name.
        config: the configuration of the encoder.
        vocabulary: the content of ``vocab.txt``.
        task: the task, fitted to its training examples.
        folder: where to write.
        detector: the detector of the regions that it was trained on, if it is known.
    """
    export(weights, config, vocabulary, folder)
    if detector is not None:
        detector.save(folder)
    write_json({"task": task.name, "settings": task.settings.model_dump(mode="json")}, folder / TASK)
    write_checksums(folder, (TASK,))


def load_task(folder: Path, task_type: type[T]) -> T:
    """Returns the task of a fine-tuned model with its settings.

    Raises:
        InputError: the model was fine-tuned on another task, or ``task.json`` is damaged.
    """
    check_file(folder / TASK)
    record = read_json(folder / TASK)
    try:
        found, settings = record["task"], record["settings"]
        if found != task_type.name:
            raise InputError(f"{folder} was fine-tuned on {found}, not on {task_type.name}")
        return task_type(task_type.settings_type.model_validate(settings))
    except (KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{folder / TASK}: is not the record of a task: {error}") from error


def load_fine_tuned(folder: Path, task: AnyTask, device: torch.device) -> FineTunedModel:
    """Returns a fine-tuned model in evaluation mode.

    Raises:
        InputError: the weights are missing or do not fit.
    """
    config = ModelConfig.load(folder / CONFIG)
    model = FineTunedModel(config, task.make_head(config))
    load_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return model.to(device).eval()


def start_task_from(folder: Path, model: FineTunedModel) -> list[str]:
    """Copies the weights of a folder into a model: those of the encoder, and those of the head that fit.

    Returns:
        The names of the head's parameters that keep their random values.

    Raises:
        InputError: the encoder does not fit.
    """
    path = folder / WEIGHTS
    advice = f"{folder / CONFIG} belongs to other weights"
    return start_from_weights(model, read_weights(path), path, required=ENCODER, advice=advice)
