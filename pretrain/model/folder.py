"""Models for people: a folder of ``config.json``, ``model.safetensors`` (float32) and ``vocab.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS
from pretrain.model.heads import ErnieViLForPreTraining
from shards.reader import VOCABULARY, read_vocabulary


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


def start_from(model: ErnieViLForPreTraining, vocabulary: list[str], source: Path) -> list[str]:
    """Copies the weights of an exported or imported model into ``model``, which has the vocabulary ``vocabulary``.

    The encoder must be the same. Heads are taken over where the source has them in the same shape: it may have been
    trained with other region targets, or be a released model, which has none.

    Returns:
        The parameters that keep their initial values, all of heads.

    Raises:
        InputError: there is no such model, or it has another vocabulary or another encoder.
    """
    folder = model_folder(source)
    if read_vocabulary(folder / VOCABULARY) != vocabulary:
        raise InputError(
            f"{folder / VOCABULARY}: not the vocabulary of the shards; pack these again with --tokenizer and this file"
        )
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be loaded: {error}") from error
    own = model.state_dict()
    fresh = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    differing = [name for name in fresh if name.startswith(ENCODER)]
    if differing:
        raise InputError(
            f"{folder}: another encoder than the recipe's ({pluralize(len(differing), 'parameter')} of another shape, "
            f"e.g. {differing[0]}); set model to {folder / CONFIG}"
        )
    model.load_state_dict({name: weights[name] for name in own if name not in fresh}, strict=False)
    return fresh
