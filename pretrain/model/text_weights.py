"""The text stream from BERT's or ERNIE 2.0's weights in the Hugging Face layout, as ERNIE-ViL starts from ERNIE 2.0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from parsers.command import InputError
from pretrain.model.encoder import ErnieViL
from shards.storage.downloads import find_weights
from shards.storage.weights import read_weights

_EMBEDDINGS = {
    "word": "embeddings.word_embeddings.weight",
    "position": "embeddings.position_embeddings.weight",
    "segment": "embeddings.token_type_embeddings.weight",
}
_PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


@dataclass(frozen=True)
class TextInitialisation:
    """Which parameters `init_text` has copied from another model, and which it has not.

    Names of parameters are those of `pretrain.model.encoder.ErnieViL`.
    """

    copied: tuple[str, ...]
    """names of the parameters that were copied as a whole"""
    partly: tuple[str, ...]
    """tables with more or fewer rows than the source's, each with what was copied, such as "rows 0 to 63 of 128"."""
    untouched: tuple[str, ...]
    """names of the parameters that keep their initial values: image stream, co-layers, poolers"""
    unused: tuple[str, ...]
    """names of the tensors of the source that the text stream has no place for, sorted"""


def init_text(model: ErnieViL, source: str | Path) -> TextInitialisation:
    """Copies the embeddings and layers of a BERT into the text stream of a model.

    The tables of positions and of segments may have another number of rows than the model's. Then the first rows, as
    many as both tables have, are copied. The other rows keep their initial values. The two vocabularies must have the
    same size, and should be the same.

    Args:
        model: the model. Its parameters are changed in place.
        source: a folder, or the id of a model on the Hugging Face hub.

    Returns:
        Which parameters were copied.

    Raises:
        InputError: there is no such model, or one of its tensors is missing or has another shape.
    """
    path = find_weights(str(source), "--start-text")
    weights = {_modern(name): tensor for name, tensor in _load(path).items()}
    parameters = dict(model.named_parameters())
    taken: dict[str, str] = {}
    for ours, theirs in _EMBEDDINGS.items():
        taken[f"text_embeddings.{ours}.weight"] = theirs
    for kind in ("weight", "bias"):
        taken[f"text_embeddings.norm.{kind}"] = f"embeddings.LayerNorm.{kind}"
        for layer in range(len(model.text_layers)):
            for ours, theirs in _PARTS.items():
                taken[f"text_layers.{layer}.{ours}.{kind}"] = f"encoder.layer.{layer}.{theirs}.{kind}"
    _check(taken, parameters, weights, path)
    partly = []
    with torch.no_grad():
        for ours, theirs in taken.items():
            rows = min(len(parameters[ours]), len(weights[theirs]))
            parameters[ours][:rows] = weights[theirs][:rows]
            if len(parameters[ours]) != len(weights[theirs]):
                partly.append(f"{ours}: rows 0 to {rows - 1} of {len(parameters[ours])}")
    whole = [name for name in taken if len(parameters[name]) == len(weights[taken[name]])]
    return TextInitialisation(
        tuple(whole),
        tuple(partly),
        tuple(name for name in parameters if name not in taken),
        tuple(sorted(weights.keys() - set(taken.values()))),
    )


def _check(
    taken: Mapping[str, str], parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path
) -> None:
    problems = []
    for ours, theirs in taken.items():
        if theirs not in weights:
            problems.append(f"{theirs}: missing")
            continue
        wanted, found = tuple(parameters[ours].shape), tuple(weights[theirs].shape)
        resizable = theirs in (_EMBEDDINGS["position"], _EMBEDDINGS["segment"])
        if wanted[1:] != found[1:] or len(wanted) != len(found) or (wanted[0] != found[0] and not resizable):
            problems.append(f"{theirs}: the text stream needs shape {wanted}, the file has {found}")
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:10])
        raise InputError(f"{path}: does not fit the text stream ({len(problems)} tensors):{listed}")


def _modern(name: str) -> str:
    """Returns the name in today's files. Older ones begin with the model, and call layer norms gamma and beta."""
    name = re.sub(r"^(bert|ernie)\.", "", name)
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


def _load(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)
    try:
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from error
    except Exception as error:  # weights_only refuses pickles with errors of its own
        raise InputError(f"{path}: holds more than weights and is not loaded: {error}") from error
