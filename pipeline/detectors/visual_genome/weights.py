"""Loads the public weights from the hub or a file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsers.checksums import sha256_of
from parsers.command import InputError, pluralize
from pipeline.detectors.visual_genome.network import VisualGenomeNetwork
from pipeline.detectors.visual_genome.proposals import cell_anchors
from shards.storage import pickles
from shards.storage.downloads import find_weights
from shards.storage.weights import read_weights

HUB_ID = "unc-nlp/frcnn-vg-finetuned"
ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".pkl")
"""The endings of files. Names with other endings may be models of the hub."""
_COUNTER = ".num_batches_tracked"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
ANCHOR_TOLERANCE = 0.01
"""how many pixels the anchors of a file may differ from the formula without a warning"""


def load_visual_genome(source: str | Path) -> tuple[VisualGenomeNetwork, str]:
    """Returns the network with its weights, in evaluation mode, and the SHA-256 of the file with the weights.

    Args:
        source: a file, a folder in the Hugging Face layout, or a model of the hub. A file is a state dict
            of torch or safetensors, or a pickle ``{"model": {name: array}}``, which is read without running its code.

    Raises:
        InputError: there is no such file, it is damaged, or it does not hold the network's weights.
    """
    path = _find(source)
    with torch.device("meta"):  # random weights would take time
        network = VisualGenomeNetwork()
    network.load_state_dict(_fit(_read(path), network.state_dict(), path), assign=True)
    network.requires_grad_(False)
    return network.eval(), sha256_of(path)


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix in ENDINGS and not path.is_dir():
        raise InputError(f"{path}: there is no such file")
    return find_weights(str(source), "--weights")


def _read(path: Path) -> Mapping[str, object]:
    """Returns the names and the tensors or arrays of a file in any of the formats."""
    found: object
    try:
        if path.suffix == ".safetensors":
            return read_weights(path)
        with warnings.catch_warnings(action="ignore"):  # about pickles, which are read below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # torch raises many errors if a file is damaged or is no state dict
        try:
            found = pickles.unpickle(path.read_bytes())
        except ValueError as other:
            raise InputError(f"{path}: neither a state dict ({error}) nor a pickle of arrays ({other})") from error
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: holds a {type(found).__name__}, not weights by their names")
    return found


def _fit(found: Mapping[str, object], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file as float32, with exactly the names and shapes of the network.

    Raises:
        InputError: the names or shapes differ, or a value is not finite.
    """
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(_COUNTER)}
    tensors = {}
    problems = [f"{name}: not a part of the network" for name in found if name not in expected]
    for name, wanted in expected.items():
        if name in counters:
            continue  # it counts training steps; files have it in many forms, or not at all
        value = found.get(name)
        if not isinstance(value, Tensor | np.ndarray):
            problems.append(f"{name}: {'missing' if value is None else f'a {type(value).__name__}, not a tensor'}")
        elif tuple(value.shape) != tuple(wanted.shape):
            problems.append(f"{name}: has shape {tuple(value.shape)}, expected {tuple(wanted.shape)}")
        else:
            # The arrays of a pickle are read-only, so they are copied.
            tensors[name] = (value if isinstance(value, Tensor) else torch.tensor(value)).float()
            if not tensors[name].isfinite().all():
                problems.append(f"{name}: NaN or infinity")
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:10])
        raise InputError(
            f"{path}: not the weights of the Visual Genome Faster R-CNN, as {HUB_ID} has them "
            f"({pluralize(len(problems), 'problem')}):{listed}"
        )
    difference = float((tensors[_ANCHORS] - cell_anchors()).abs().max())
    if difference > ANCHOR_TOLERANCE:
        warnings.warn(f"{path}: its anchors, which are used, are {difference:.3g} px off the usual ones", stacklevel=3)
    return tensors | counters
