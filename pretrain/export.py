"""Models for people: a folder of ``config.json``, ``model.safetensors`` (float32) and ``vocab.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pretrain.config import ModelConfig
from pretrain.heads import ErnieViLForPreTraining
from pretrain.model import CONFIG, WEIGHTS
from shards.errors import InputError
from shards.reader import VOCABULARY


def export(weights: Mapping[str, Tensor], config: ModelConfig, vocabulary: bytes, folder: Path) -> None:
    """Writes a model from its float32 weights by name; they appear whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / CONFIG)
    (folder / VOCABULARY).write_bytes(vocabulary)
    temporary = folder / (WEIGHTS + ".tmp")
    save_file(dict(weights), temporary, metadata={"format": "pt"})
    temporary.replace(folder / WEIGHTS)


def model_folder(path: Path) -> Path:
    """The folder of the model that is meant by ``path``: itself, or that of the pretraining run there.

    Raises:
        InputError: it is neither.
    """
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    raise InputError(
        f"{path}: neither a model ({CONFIG}, {WEIGHTS}, {VOCABULARY}) nor a pretraining run that has come to its end "
        "and written its model/; continue one with --resume"
    )


def load(folder: Path) -> ErnieViLForPreTraining:
    """Reads a model with its pretraining heads, in evaluation mode on the CPU.

    Raises:
        InputError: the folder is no such model, or its weights do not fit its configuration.
    """
    model = ErnieViLForPreTraining(ModelConfig.load(folder / CONFIG))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be loaded: {error}") from error
    return model.eval()
