"""DeepSpeed's files in a checkpoint: copied, verified, converted, and read without running code that they name.

The files are pickles, and a pickle is a program.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from deepspeed.checkpoint import ds_to_universal
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from torch import Tensor, UntypedStorage
from typing_extensions import TypedDict

from parsers.checksums import sha256_of
from parsers.command import InputError, say
from shards.storage.files import flush

_NEEDED = [LossScaler, ZeroStageEnum, fragment_address]
"""The classes of DeepSpeed that its files hold. They keep numbers alone, and run no code when they are made."""
REFUSED = 3
"""Exit code of a conversion that has refused a file; its last line says why."""
_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class FileRecord(TypedDict):
    """What must be found on the disk when a file is read again."""

    bytes: int
    sha256: str


class CopyingEngine(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """Stands in for DeepSpeed's writer, and copies what it is given into the host's memory.

    Attributes:
        files: the content of each file, in the order in which DeepSpeed has handed them over.
    """

    def __init__(self, plain: CheckpointEngine) -> None:
        super().__init__()
        self.files: dict[Path, object] = {}
        self._plain = plain

    def create(self, info: CheckpointCommitInfo) -> None:
        """Announces a checkpoint."""
        self._plain.create(info)

    def save(self, state_dict: object, path: str) -> None:
        """Copies the content of a file."""
        self.files[Path(path)] = _copy(state_dict, {})

    def load(self, path: str, map_location: object = None) -> object:
        """Reads a file."""
        return self._plain.load(path, map_location)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Says that all files were handed over."""
        return bool(self._plain.commit(info))


def _copy(value: object, storages: dict[tuple[torch.device, int], UntypedStorage]) -> object:
    """Copies the tensors in nested containers. Tensors that share memory share it in the copy, too."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        key = storage.device, storage.data_ptr()
        if key not in storages:
            on_cpu = storage.device.type == "cpu"
            storages[key] = storage.clone() if on_cpu else storage.cpu()  # type: ignore[no-untyped-call]
        copy = torch.empty(0, dtype=value.dtype)
        return copy.set_(storages[key], value.storage_offset(), value.shape, value.stride())
    if isinstance(value, dict):
        return type(value)((key, _copy(item, storages)) for key, item in value.items())
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_copy(item, storages) for item in value)
    return value


def record_file(path: Path) -> FileRecord:
    """Reads a file from the disk and returns its record."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def verify_file(path: Path) -> FileRecord:
    """Flushes a file to the disk, compares what is read back with the CRC-32 of each tensor, and returns its record.

    ``torch.save`` computes the CRC-32 in memory.

    Raises:
        InputError: the disk holds something else.
    """
    flush(path)
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile as error:
        bad = str(error)
    if bad is not None:
        raise InputError(f"{path}: what the disk holds is not what was written ({bad}); check the disk")
    return record_file(path)


@contextmanager
def refuse_code(source: Path) -> Iterator[None]:
    """Makes every ``torch.load`` inside, of DeepSpeed and of processes that it starts, refuse all but plain values.

    DeepSpeed asks for pickles of any kind. PyTorch has a variable that overrules it.

    Args:
        source: the checkpoint, for the message.

    Raises:
        InputError: a file names a function or class that checkpoints do not need, or is damaged.
    """
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        with torch.serialization.safe_globals(_NEEDED):
            yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"asks for {named[1]}, which a checkpoint does not need" if named else "is no pickle of plain values"
        raise InputError(
            f"{source}: a file in it {reason}, so it is not loaded and none of its code was run; take another "
            "checkpoint, and ask whoever wrote this one"
        ) from error
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


def convert() -> None:
    """Converts a checkpoint, in a process of its own, as DeepSpeed's ``ds_to_universal`` does with the same options."""
    arguments = ds_to_universal.parse_arguments()
    try:
        with refuse_code(Path(arguments.input_folder)):
            ds_to_universal.main(arguments)
    except InputError as error:
        say(str(error))
        sys.exit(REFUSED)
