"""Released ERNIE-ViL checkpoints, which are Paddle Fluid's, and model folders: from one to the other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from finetune.heads import HEADS, VcrHead
from finetune.released.paddle_files import COMBINED, read_combined, read_variable, write_record
from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS, ErnieViL
from pretrain.model.released_names import load_released, released_arrays, released_shapes
from shards.reader import VOCABULARY
from shards.storage.files import sha256_of

Arrays = dict[str, NDArray[Any]]

RECORD = "import.json"
HEAD = "head."
"""Prefix of the tensors of a task's head (`finetune.heads`)."""

# Optimiser state, counters and results of operations, which training checkpoints hold beside the parameters.
_STATE = re.compile(
    r".*_(moment[12]|beta[12]_pow_acc)_\d+|@LR_DECAY_COUNTER@|scheduled_learning_rate|learning_rate_\d+|.*\.tmp_\d+|in_\d+"
)
# What a checkpoint may hold beside the encoder. A VCR model that was trained on one sub-task has one of its two heads.
_HEADS = (
    (),
    *(tuple(head.released.values()) for head in HEADS.values()),
    *(tuple(n for n in VcrHead.released.values() if n.startswith(part)) for part in ("vcr_qa_fc", "vcr_qar_fc")),
)
_FEATURES = "image_emb.w_0"
_POOLERS = tuple(f"pooled_fc_{side}.{kind}_0" for side in ("text", "image") for kind in "wb")


@dataclass(frozen=True)
class Checkpoint:
    """A released checkpoint as it lies on the disk."""

    arrays: Arrays
    """parameters by their released names"""
    skipped: tuple[str, ...]
    """names of optimiser state, counters and the like, sorted"""
    checksums: dict[str, str]
    """sha256 by file"""


def read_checkpoint(source: Path, shapes: Mapping[str, tuple[int, ...]]) -> Checkpoint:
    """Reads a folder of one file per variable, a combined file, or a folder that holds only that.

    Args:
        shapes: those of the model by released names; a combined file has no names, so they are found by shape.

    Raises:
        InputError: it is neither, or a file of it is damaged.
    """
    if source.is_dir():
        files = sorted(source.iterdir())
        if [path.name for path in files] == [COMBINED]:
            source = files[0]
        else:
            return _read_folder(source, files)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder")
    return Checkpoint(_name(read_combined(source), shapes, source), (), {source.name: sha256_of(source)})


def _read_folder(folder: Path, files: list[Path]) -> Checkpoint:
    if not files:
        raise InputError(f"{folder}: is empty")
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: not a plain file; the folder of a checkpoint holds one file per variable")
    skipped = tuple(path.name for path in files if _STATE.fullmatch(path.name))
    parameters = [path for path in files if path.name not in skipped]
    arrays = {path.name: read_variable(path) for path in parameters}
    return Checkpoint(arrays, skipped, {path.name: sha256_of(path) for path in parameters})


def _name(variables: list[NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], source: Path) -> Arrays:
    """Gives the variables of a combined file, which has no names, those of the model and of one task's head."""
    for left_out in ((), _POOLERS):
        for head in _HEADS:
            names = sorted((shapes.keys() - set(left_out)) | set(head))
            if len(names) == len(variables) and all(
                name == _FEATURES or variable.shape == shapes.get(name, variable.shape)
                for name, variable in zip(names, variables, strict=True)
            ):
                return dict(zip(names, variables, strict=True))
    raise InputError(
        f"{source}: holds {len(variables)} variables that do not fit the {len(shapes)} of the model with any released "
        "head; check --config"
    )


# ------------------------------------------------------------------------------------------------------------- in, out


def import_released(
    source: Path, config: ModelConfig, out: Path, *, vocabulary: Path | None, allow_missing: bool
) -> dict[str, Any]:
    """Writes a model folder of a released checkpoint; returns what ``import.json`` says.

    Raises:
        InputError: the checkpoint is damaged, does not fit the configuration, has another dtype than float32, or lacks
            parameters without ``allow_missing``.
    """
    torch.manual_seed(0)  # what stays untouched is at least the same every time
    checkpoint = read_checkpoint(source, released_shapes(config))
    if "v_feature_size" not in config.model_fields_set and checkpoint.arrays.get(_FEATURES, np.empty(0)).ndim == 2:
        # The released configurations leave the size of the features to the code.
        config = config.model_copy(update={"v_feature_size": checkpoint.arrays[_FEATURES].shape[0]})
    model = ErnieViL(config)
    wrong = {name: str(array.dtype) for name, array in checkpoint.arrays.items() if array.dtype != np.float32}
    if wrong:
        listed = ", ".join(f"{name} is {dtype}" for name, dtype in sorted(wrong.items())[:5])
        raise InputError(f"{source}: released parameters are float32, but {listed}")
    missing = sorted(released_shapes(config).keys() - checkpoint.arrays.keys())
    if missing and not allow_missing:
        raise InputError(
            f"{source}: lacks {pluralize(len(missing), 'parameter')} of the model: {', '.join(missing[:8])}"
            f"{', ...' if len(missing) > 8 else ''}. With --allow-missing they keep their random initial values"
        )
    heads = load_released(model, checkpoint.arrays, may_miss=missing)
    ours = {released: name for head in HEADS.values() for name, released in head.released.items()}
    if strangers := [name for name in heads if name not in ours]:
        raise InputError(f"{source}: {', '.join(strangers[:5])} are parameters of no released model")
    if not any(set(heads) == set(names) for names in _HEADS):
        raise InputError(f"{source}: {', '.join(heads)} are not the head of one task; a parameter lacks or is too many")
    tensors = {ENCODER + name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors |= {HEAD + ours[name]: _transposed(checkpoint.arrays[name]) for name in heads}
    out.mkdir(parents=True, exist_ok=True)
    config.save(out / CONFIG)
    if vocabulary is not None:
        shutil.copyfile(vocabulary, out / VOCABULARY)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, out / WEIGHTS, {"format": "pt"})
    record = {
        "source": source.name,
        "parameters": len(checkpoint.arrays) - len(heads),
        "head": list(heads),
        "untouched": missing,
        "skipped": list(checkpoint.skipped),
        "sha256": checkpoint.checksums,
    }
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def export_released(source: Path, out: Path, *, combined: bool) -> int:
    """Writes a model folder as a released checkpoint, one file per variable or all in one; returns how many.

    Raises:
        InputError: the folder holds no model, or the output folder is not empty.
    """
    config = ModelConfig.load(source / CONFIG)
    try:
        tensors = load_file(source / WEIGHTS)
    except Exception as error:  # safetensors raises several kinds
        raise InputError(f"{source / WEIGHTS}: cannot be loaded: {error}") from error
    model = ErnieViL(config)
    encoder = {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}
    try:
        model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in encoder.items()})
    except RuntimeError as error:
        raise InputError(f"{source / WEIGHTS}: does not fit {CONFIG}: {error}") from error
    record = json.loads((source / RECORD).read_text()) if (source / RECORD).exists() else {}
    arrays: Arrays = {n: a for n, a in released_arrays(model).items() if n not in record.get("untouched", ())}
    arrays |= _released_head({n.removeprefix(HEAD): t for n, t in tensors.items() if n.startswith(HEAD)}, source)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name another --out folder")
    out.mkdir(parents=True, exist_ok=True)
    if combined:
        with (out / COMBINED).open("wb") as stream:
            for name in sorted(arrays):
                write_record(stream, arrays[name])
    else:
        for name, array in arrays.items():
            with (out / name).open("wb") as stream:
                write_record(stream, array)
    return len(arrays)


def _released_head(tensors: Arrays, source: Path) -> Arrays:
    """The tensors of a task's head by their released names; there may be none."""
    names = next((head.released for head in HEADS.values() if tensors.keys() <= head.released.keys()), None)
    if names is None:
        raise InputError(f"{source / WEIGHTS}: {', '.join(sorted(tensors)[:5])} are the head of no released task")
    return {names[name]: _transposed(tensor) for name, tensor in tensors.items()}


def _transposed(array: NDArray[Any]) -> NDArray[Any]:
    """A released weight is [in, out], `torch.nn.Linear.weight` [out, in]; biases are the same in both."""
    return np.ascontiguousarray(array.T)
