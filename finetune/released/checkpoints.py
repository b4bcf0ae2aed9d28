"""Converts released ERNIE-ViL checkpoints, which have the format of Paddle Fluid, to model folders and back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from finetune.heads import HEAD, TaskHead
from finetune.released.paddle_files import COMBINED, read_combined, read_variable, write_variable
from finetune.tasks import TASKS, import_task
from finetune.tasks.checks import expect_layout, read_text
from parsers.checksums import forget_checksums, sha256_of, write_checksums
from parsers.command import InputError, pluralize
from pretrain.model.config import ModelConfig
from pretrain.model.encoder import CONFIG, ENCODER, WEIGHTS, ErnieViL
from pretrain.model.released_names import load_released, released_arrays, released_shapes
from shards.schema import Array
from shards.storage.files import read_json, write_indented_json
from shards.storage.lock import LOCK
from shards.storage.scratch import new_folder, remove_leftovers
from shards.storage.weights import load_weights, read_weights, write_weights
from shards.vocabulary import VOCABULARY, read_vocabulary

Arrays = dict[str, Array]

RECORD = "import.json"

# Training checkpoints hold optimiser state, counters and results of operations beside the parameters.
_STATE = re.compile(
    r".*_(moment[12]|beta[12]_pow_acc)_\d+|@LR_DECAY_COUNTER@|scheduled_learning_rate|learning_rate_\d+|.*\.tmp_\d+|in_\d+"
)
_FEATURES = "image_emb.w_0"
_POOLERS = tuple(f"pooled_fc_{side}.{kind}_0" for side in ("text", "image") for kind in "wb")


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """The content of a released checkpoint."""

    arrays: Arrays
    """parameters by their released names"""
    skipped: tuple[str, ...]
    """names of optimiser state, counters and the like, sorted"""
    checksums: dict[str, str]
    """SHA-256 by file name"""


class ImportRecord(TypedDict):
    """The content of ``import.json``, which describes an imported checkpoint."""

    source: str
    """name of the file or folder"""
    parameters: int
    """number of the encoder's parameters that were imported"""
    head: list[str]
    """released names of the head's parameters"""
    untouched: list[str]
    """released names of the encoder's parameters that were not in the checkpoint and have random values"""
    skipped: list[str]
    """variables of the checkpoint that are not parameters"""
    sha256: dict[str, str]
    """checksum by file name"""


def read_checkpoint(source: Path, shapes: Mapping[str, tuple[int, ...]]) -> ReleasedCheckpoint:
    """Reads a folder of one file per variable, a combined file, or a folder that holds only that.

    Args:
        source: the file or folder.
        shapes: the shapes of the encoder's parameters by released names. A combined file has no names, so they are
            found by shape.

    Raises:
        InputError: ``source`` is none of these, or a file is damaged.
    """
    if source.is_dir():
        files = sorted(source.iterdir())
        if [path.name for path in files] == [COMBINED]:
            source = files[0]
        else:
            return _read_folder(source, files)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder")
    return ReleasedCheckpoint(
        _name_variables(read_combined(source), shapes, source), (), {source.name: sha256_of(source)}
    )


def _read_folder(folder: Path, files: list[Path]) -> ReleasedCheckpoint:
    if not files:
        raise InputError(f"{folder}: is empty")
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: not a plain file; the folder of a checkpoint holds one file per variable")
    skipped = tuple(path.name for path in files if _STATE.fullmatch(path.name))
    parameters = [path for path in files if path.name not in skipped]
    arrays = {path.name: read_variable(path) for path in parameters}
    return ReleasedCheckpoint(arrays, skipped, {path.name: sha256_of(path) for path in parameters})


def _list_heads() -> dict[str, type[TaskHead]]:
    """Returns the heads of all tasks by the names of the tasks."""
    return {name: import_task(name).head_type for name in TASKS}


def _list_head_names() -> list[tuple[str, ...]]:
    """Returns all sets of head parameters that a released checkpoint may hold, by their released names.

    There may be none, or those of a whole head. VCR has two scores, and a model that was trained on one part holds the
    parameters of one score.
    """
    heads = _list_heads().values()
    parts = (
        tuple(released for name, released in head.released.items() if name.startswith(f"{part}."))
        for head in heads
        for part in head.released_alone
    )
    return [(), *(tuple(head.released.values()) for head in heads), *parts]


def _name_variables(variables: list[Array], shapes: Mapping[str, tuple[int, ...]], source: Path) -> Arrays:
    """Names the variables of a combined file, which holds them in the order of their sorted names."""
    for left_out in ((), _POOLERS):
        for head in _list_head_names():
            names = sorted((shapes.keys() - set(left_out)) | set(head))
            if len(names) == len(variables) and all(
                name == _FEATURES or variable.shape == shapes.get(name, variable.shape)
                for name, variable in zip(names, variables, strict=True)
            ):
                return dict(zip(names, variables, strict=True))
    raise InputError(
        f"{source}: holds {len(variables)} variables that do not fit the {len(shapes)} parameters of the model with "
        "any released head; check --size"
    )


# --------------------------------------------------------------------------------------------------- import, export


def import_released(
    source: Path, config: ModelConfig, out: Path, *, vocabulary: Path | None, allow_missing: bool
) -> ImportRecord:
    """Writes a model folder from a released checkpoint.

    Args:
        source: the checkpoint, see `read_checkpoint`.
        config: the configuration of the encoder.
        out: the model folder, whose lock this process holds.
        vocabulary: the ``vocab.txt`` to copy, if there is one.
        allow_missing: give parameters that the checkpoint lacks random values.

    Returns:
        What ``import.json`` says.

    Raises:
        InputError: the checkpoint is damaged, does not fit the configuration, has another dtype than float32, or lacks
            parameters without ``allow_missing``.
    """
    torch.manual_seed(0)  # so that missing parameters get the same random values in every import
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
    ours = {released: name for head in _list_heads().values() for name, released in head.released.items()}
    if strangers := [name for name in heads if name not in ours]:
        raise InputError(f"{source}: {', '.join(strangers[:5])} are not parameters of any released model")
    if not any(set(heads) == set(names) for names in _list_head_names()):
        raise InputError(
            f"{source}: {', '.join(heads)} are not the head of one task: a parameter is missing, or there are too many"
        )
    tensors = {ENCODER + name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors |= {HEAD + ours[name]: _transpose(checkpoint.arrays[name]) for name in heads}
    if vocabulary is not None:
        config.check_vocabulary(vocabulary, len(read_vocabulary(vocabulary)))
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    forget_checksums(out)
    if vocabulary is not None:
        shutil.copyfile(vocabulary, out / VOCABULARY)
    write_weights({name: torch.tensor(array) for name, array in tensors.items()}, out / WEIGHTS)
    record: ImportRecord = {
        "source": source.name,
        "parameters": len(checkpoint.arrays) - len(heads),
        "head": list(heads),
        "untouched": missing,
        "skipped": list(checkpoint.skipped),
        "sha256": checkpoint.checksums,
    }
    write_indented_json(record, out / RECORD)
    config.save(out / CONFIG)  # after the others, because a folder with this file is taken as a complete model
    write_checksums(out, [WEIGHTS, CONFIG, *([] if vocabulary is None else [VOCABULARY])])
    return record


def export_released(source: Path, out: Path, *, combined: bool) -> int:
    """Writes a model folder as a released checkpoint.

    Args:
        source: the model folder.
        out: the folder of the checkpoint, whose lock this process holds; it must be empty otherwise. It is written
            beside it and appears as a whole.
        combined: write all variables to one file, instead of one file per variable.

    Returns:
        The number of variables.

    Raises:
        InputError: the folder holds no model, or the output folder is not empty.
    """
    config = ModelConfig.load(source / CONFIG)
    tensors = read_weights(source / WEIGHTS)
    model = ErnieViL(config)
    encoder = {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}
    load_weights(model, encoder, source / WEIGHTS)
    untouched: list[str] = []
    if (source / RECORD).exists():
        with expect_layout(source / RECORD, "the record of an import"):
            untouched = [read_text(name) for name in read_json(source / RECORD)["untouched"]]
    arrays: Arrays = {n: a for n, a in released_arrays(model).items() if n not in untouched}
    arrays |= _convert_head({n.removeprefix(HEAD): t.numpy() for n, t in tensors.items() if n.startswith(HEAD)}, source)
    out.mkdir(parents=True, exist_ok=True)
    if any(path.name != LOCK for path in out.iterdir()):
        raise InputError(f"{out} is not empty; name another --out folder")
    with new_folder(out) as folder:
        if combined:
            with (folder / COMBINED).open("wb") as stream:
                for name in sorted(arrays):
                    write_variable(stream, arrays[name])
        else:
            for name, array in arrays.items():
                with (folder / name).open("wb") as stream:
                    write_variable(stream, array)
    return len(arrays)


def _convert_head(tensors: Arrays, source: Path) -> Arrays:
    """Returns the tensors of a task's head, if there are any, by their released names."""
    names = next((head.released for head in _list_heads().values() if tensors.keys() <= head.released.keys()), None)
    if names is None:
        raise InputError(f"{source / WEIGHTS}: {', '.join(sorted(tensors)[:5])} are not the head of a released task")
    return {names[name]: _transpose(tensor) for name, tensor in tensors.items()}


def _transpose(array: Array) -> Array:
    """Turns a released weight, [in, out], into a PyTorch weight, [out, in], and back. Biases do not change."""
    return np.ascontiguousarray(array.T)
