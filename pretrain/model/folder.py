"""Models for people: a folder of ``config.json``, ``model.safetensors`` (float32), ``vocab.txt`` and checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from parsers.checksums import forget_checksums, write_checksums
from parsers.command import InputError
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS, ErnieViL
from pretrain.model.heads import ErnieViLForPreTraining
from shards.regions.detector import DetectorRecord
from shards.storage.files import write_atomic
from shards.storage.scratch import remove_leftovers
from shards.storage.weights import load_weights, read_weights, start_from_weights, write_weights
from shards.vocabulary import VOCABULARY, read_vocabulary


def export(weights: Mapping[str, Tensor], config: ModelConfig, vocabulary: bytes, folder: Path) -> None:
    """Writes a model folder.

    `model_folder` takes a folder with a ``config.json`` as complete, so only the checksums are written after this file.

    Args:
        weights: float32 on the CPU, by parameter name.
        config: of the model.
        vocabulary: the bytes of ``vocab.txt``.
        folder: is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    forget_checksums(folder)
    write_atomic(folder / VOCABULARY, vocabulary)
    write_weights(weights, folder / WEIGHTS)
    config.save(folder / CONFIG)
    write_checksums(folder, (VOCABULARY, WEIGHTS, CONFIG))


def export_untrained(config: ModelConfig, vocabulary: bytes, folder: Path, seed: int) -> None:
    """Writes a model folder with random weights of an encoder. The arguments are those of `export`."""
    torch.manual_seed(seed)
    weights = {ENCODER + name: tensor for name, tensor in ErnieViL(config).state_dict().items()}
    export(weights, config, vocabulary, folder)


def read_detector(folder: Path) -> DetectorRecord:
    """Returns what is known of the detector of a model's regions: at least the feature size.

    Args:
        folder: with the ``config.json`` of the model.

    Raises:
        InputError: a file is damaged.
    """
    size = ModelConfig.load(folder / CONFIG).v_feature_size
    return DetectorRecord.load(folder) or DetectorRecord(feature_size=size)


def model_folder(path: Path) -> Path:
    """Returns the folder of the model that ``path`` means: itself, or ``model/`` of the pretraining run there.

    Raises:
        InputError: there is no complete model.
    """
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise InputError(f"{path}: there is no such model or run")
    raise InputError(
        f"{path}: neither a model ({CONFIG}, {WEIGHTS}, {VOCABULARY}) nor a pretraining run that has come to its end "
        "and written its model/; continue one with --resume"
    )


def load_model(folder: Path) -> ErnieViLForPreTraining:
    """Reads a model with its pretraining heads, in evaluation mode on the CPU.

    Raises:
        InputError: the folder is no such model, or its weights do not fit its configuration.
    """
    model = ErnieViLForPreTraining(ModelConfig.load(folder / CONFIG))
    load_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval()


def start_from(model: ErnieViLForPreTraining, vocabulary: list[str], source: Path) -> list[str]:
    """Copies the weights of an exported or imported model into ``model``, whose vocabulary is ``vocabulary``.

    The encoder must be the same. A parameter of a head is copied where the source has it in the same shape: the source
    may have been trained with other region targets, or be a released model, which has no heads.

    Returns:
        The parameters that keep their initial values, all of them of heads.

    Raises:
        InputError: there is no such model, or it has another vocabulary or another encoder.
    """
    folder = model_folder(source)
    if read_vocabulary(folder / VOCABULARY) != vocabulary:
        raise InputError(
            f"{folder / VOCABULARY}: not the vocabulary of the shards; pack these again with --tokenizer and this file"
        )
    path = folder / WEIGHTS
    advice = f"set model in the recipe to {folder / CONFIG}"
    return start_from_weights(model, read_weights(path), path, required=ENCODER, advice=advice)
