"""Files of weights: writing and reading them, and loading what is in them into a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from parsers.checksums import check_file
from parsers.command import InputError
from shards.storage.files import replace_atomic

_SHOWN = 5
"""Parameters that a message names."""


def write_weights(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors by name as a safetensors file that appears only when it is complete.

    Args:
        weights: on the CPU, contiguous.
        path: of the file; its folder exists.
        metadata: of the file. By default it says that the tensors are PyTorch's.
    """
    with replace_atomic(path) as temporary:
        save_file(dict(weights), temporary, metadata={"format": "pt"} if metadata is None else dict(metadata))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file, by name, onto the CPU.

    Raises:
        InputError: the file is missing, damaged or of another format, or it differs from its checksum.
    """
    check_file(path)
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from error
    return weights


def read_weights_metadata(path: Path) -> dict[str, str]:
    """Reads the metadata of a safetensors file; empty if it has none.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copies weights into a model that must have exactly these parameters. All are copied or none.

    Args:
        model: is changed.
        weights: by the names of the model's parameters and buffers.
        path: names the weights in the message.

    Raises:
        InputError: parameters are missing, unknown or of another shape; the message names them.
    """
    wrong = [*_find_unfit(model, weights), *(name for name in weights if name not in model.state_dict())]
    if wrong:
        raise InputError(f"{path}: does not fit the model: {_list(wrong)} missing, unknown or of another shape")
    model.load_state_dict(dict(weights))


def start_from_weights(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, *, required: str, advice: str
) -> list[str]:
    """Copies what fits of some weights into a model; weights that the model does not know are left out.

    Args:
        model: is changed, unless there is an error.
        weights: by the names of the model's parameters and buffers.
        path: names the weights in the message.
        required: a parameter whose name begins so must be there in its shape.
        advice: what to do otherwise.

    Returns:
        The parameters that keep their values, in the model's order.

    Raises:
        InputError: a required parameter is missing or has another shape.
    """
    kept = _find_unfit(model, weights)
    wrong = [name for name in kept if name.startswith(required)]
    if wrong:
        raise InputError(f"{path}: does not fit the model: {_list(wrong)} missing or of another shape; {advice}")
    model.load_state_dict({name: weights[name] for name in model.state_dict() if name not in kept}, strict=False)
    return kept


def _find_unfit(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """The parameters and buffers of a model that ``weights`` lack or have in another shape."""
    own = model.state_dict()
    return [name for name in own if name not in weights or weights[name].shape != own[name].shape]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"
