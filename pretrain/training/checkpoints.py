"""Checkpoints to resume from: they appear whole or not at all, and are read again after they are written.

DeepSpeed makes a folder of files, some by each rank. What they hold is copied, and written under a temporary name while
training goes on. Every file is then read from the disk and compared with the checksums that were taken from memory;
last comes a rename. ``checkpoint.json`` in the folder holds the sizes and checksums, the state of the loop, and what
the run was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine
from torch import Tensor, UntypedStorage

from parsers.command import InputError
from pretrain.training.distributed import DistributedContext
from shards.storage.files import check_free_disk, flush, write_atomic

LATEST = "latest"
RECORD = "checkpoint.json"
_FINGERPRINT = "identity"
"""The key of the fingerprint in the record. The name is that of checkpoints that exist."""
_PREFIX, _TEMPORARY = "step-", ".writing-"
_BYTES_PER_PARAMETER = 16
"""Of a first checkpoint, at most: fp32 weights, two moments, and the weights in the model's own type."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was found, whole and of this run."""

    folder: Path
    ranks: int
    state: Mapping[str, Any]
    """of the loop"""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return _size(self.folder)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint that is being written."""

    folder: Path
    target: Path
    """where it appears"""
    record: dict[str, Any]
    files: Future[dict[str, dict[str, Any]]]
    """sizes and checksums of this rank's files"""


class Checkpoints:
    """The last few checkpoints of a run. All ranks call its methods together."""

    def __init__(self, folder: Path, *, keep: int, fingerprint: Mapping[str, Any], world: DistributedContext) -> None:
        self.folder = folder
        self._keep = keep
        self._fingerprint = dict(fingerprint)
        self._world = world
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: _Writing | None = None

    def exist(self) -> bool:
        """Whether there is one."""
        return (self.folder / LATEST).is_file()

    # --------------------------------------------------------------------------------------------------------- write

    def begin(self, engine: deepspeed.DeepSpeedEngine, step: int, state: Mapping[str, Any]) -> None:
        """Copies what a checkpoint holds, and begins to write it. The one before must be `finish`-ed.

        Raises:
            InputError: there is no room for it. The earlier checkpoints are as they were.
        """
        assert self._writing is None, "one checkpoint at a time"
        writing, target = self.folder / f"{_TEMPORARY}{step}", self.folder / f"{_PREFIX}{step}"
        self._world.on_first(lambda: self._make_room(engine))
        plain = engine.checkpoint_engine
        engine.checkpoint_engine = copies = _Copies(plain)
        try:
            engine.save_checkpoint(str(self.folder), tag=writing.name, save_latest=False)
        except (OSError, RuntimeError) as error:
            # The other ranks wait for this one inside DeepSpeed; they end with the process group.
            raise InputError(f"{target}: cannot be written: {error}; {self._advice()}") from error
        finally:
            engine.checkpoint_engine = plain
        record = {"step": step, "ranks": self._world.size, "state": dict(state), _FINGERPRINT: self._fingerprint}
        self._writing = _Writing(writing, target, record, self._thread.submit(self._write, copies.files, plain, target))

    def _write(self, files: dict[Path, Any], plain: CheckpointEngine, target: Path) -> dict[str, dict[str, Any]]:
        """Writes this rank's files; returns their sizes and checksums."""
        found = {}
        try:
            for path in list(files):
                plain.save(files.pop(path), str(path))
                found[path.name] = _checksum(path, verify=True)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{target}: cannot be written: {error}; {self._advice()}") from error
        return found

    @property
    def written(self) -> bool:
        """Whether this rank has ended its part of a checkpoint that is not finished yet, well or not."""
        return self._writing is not None and self._writing.files.done()

    def finish(self) -> None:
        """Waits until all ranks have written what they began, and makes it appear; older ones are removed.

        Does nothing where nothing was begun.

        Raises:
            InputError: it could not be written. The earlier checkpoints are as they were.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        files = self._world.share(writing.files.result)
        self._world.on_first(lambda: self._publish(writing, files))

    def _publish(self, writing: _Writing, files: dict[str, dict[str, Any]]) -> None:
        write_atomic(writing.folder / RECORD, json.dumps(writing.record | {"files": files}, indent=1).encode())
        flush(writing.folder)
        if writing.target.exists():  # left by a run that was killed before it became the latest
            shutil.rmtree(writing.target)
        writing.folder.rename(writing.target)
        flush(self.folder)
        write_atomic(self.folder / LATEST, writing.target.name.encode())
        for old in self._found()[: -self._keep]:  # gigabytes take a while
            self._thread.submit(shutil.rmtree, old.rename(self.folder / f"{_TEMPORARY}{old.name}"), ignore_errors=True)

    def _make_room(self, engine: deepspeed.DeepSpeedEngine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = self._found()
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters())
        check_free_disk(
            self.folder, _size(found[-1]) if found else parameters * _BYTES_PER_PARAMETER, "the next checkpoint"
        )

    def _found(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(self.folder.glob(f"{_PREFIX}*"), key=lambda path: int(path.name.removeprefix(_PREFIX)))

    def _advice(self) -> str:
        return "make room and continue with --resume" if self.exist() else "make room and start again"

    def _checksums(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Size and checksum of this rank's share of the files, read from the disk."""
        return {
            path.name: _checksum(path, verify=False)
            for number, path in enumerate(sorted(folder.iterdir()))
            if path.name != RECORD and number % self._world.size == self._world.rank
        }

    # ---------------------------------------------------------------------------------------------------------- read

    def find(self) -> Checkpoint:
        """The latest checkpoint, after all of its bytes were compared with their checksums.

        Raises:
            InputError: it is damaged, or was written with other data or another recipe.
        """
        return self._check(self.folder / _read(self.folder / LATEST))

    def last(self, count: int) -> list[Checkpoint]:
        """The last so many checkpoints that as many ranks as there are now have written, the newest last.

        There may be fewer. They are compared with their checksums.

        Raises:
            InputError: one is damaged.
        """
        checkpoints = [self._check(folder) for folder in self._found()[-count:]]
        return [checkpoint for checkpoint in checkpoints if checkpoint.ranks == self._world.size]

    def _check(self, folder: Path) -> Checkpoint:
        try:
            record = json.loads(_read(folder / RECORD))
            found, files = record[_FINGERPRINT], record["files"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / RECORD}: is damaged: {error!r}; {self._alternatives(folder)}") from error
        differing = [
            key for key in sorted({*found, *self._fingerprint}) if found.get(key) != self._fingerprint.get(key)
        ]
        if differing:
            changes = "; ".join(f"{key}: {found.get(key)} -> {self._fingerprint.get(key)}" for key in differing)
            raise InputError(
                f"{self.folder} belongs to another run ({changes}); resume with the same, or name another --out"
            )
        on_disk = self._world.share(lambda: self._checksums(folder))
        damaged = [name for name in sorted({*files, *on_disk}) if files.get(name) != on_disk.get(name)]
        if damaged:
            what = ", ".join(f"{name} ({'differs' if name in on_disk else 'is missing'})" for name in damaged)
            raise InputError(f"{folder}: is damaged: {what}; {self._alternatives(folder)}")
        return Checkpoint(folder, int(record["ranks"]), record["state"])

    def _alternatives(self, damaged: Path) -> str:
        others = [path.name for path in self._found() if path != damaged]
        if not others:
            return "there is no other checkpoint: start again in another --out"
        return f"to go back to {others[-1]}, run: echo -n {others[-1]} > {self.folder / LATEST}"

    def load(self, engine: deepspeed.DeepSpeedEngine, checkpoint: Checkpoint) -> None:
        """Loads the weights and the optimiser, also on another number of ranks than they were saved on.

        With ZeRO on another number of ranks, the engine must have been made to load universal checkpoints.
        """
        folder = checkpoint.folder
        if engine.load_universal_checkpoint():
            folder = self.folder / f"{_TEMPORARY}universal"
            self._world.on_first(lambda: self._convert(checkpoint, folder))
        try:
            path, _ = engine.load_checkpoint(str(self.folder), tag=folder.name)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: cannot be loaded: {error}") from error
        if path is None:
            raise InputError(f"{folder}: cannot be loaded")
        self._world.on_first(lambda: shutil.rmtree(self.folder / f"{_TEMPORARY}universal", ignore_errors=True))

    def _convert(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Writes the checkpoint in DeepSpeed's universal format."""
        shutil.rmtree(folder, ignore_errors=True)
        check_free_disk(folder, 2 * checkpoint.size, "the conversion to another number of ranks")
        command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
        command += ["--input_folder", str(checkpoint.folder), "--output_folder", str(folder)]
        launcher = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}
        environment = {key: value for key, value in os.environ.items() if key not in launcher}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        (self.folder / "latest_universal").unlink(missing_ok=True)
        if done.returncode != 0:
            tail = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise InputError(
                f"{checkpoint.folder}: cannot be converted from {checkpoint.ranks} to {self._world.size} ranks "
                f"({' '.join(command)}: {' '.join(tail)}); resume on {checkpoint.ranks}"
            )


class _Copies(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """Takes copies, in the host's memory, of what DeepSpeed wants to write."""

    def __init__(self, plain: CheckpointEngine) -> None:
        super().__init__()
        self.files: dict[Path, Any] = {}
        self._plain = plain

    def create(self, info: CheckpointCommitInfo) -> None:
        """Says that a checkpoint comes."""
        self._plain.create(info)

    def save(self, state_dict: Any, path: str) -> None:
        """Copies the content of a file."""
        self.files[Path(path)] = _copied(state_dict, {})

    def load(self, path: str, map_location: Any = None) -> Any:
        """Reads a file."""
        return self._plain.load(path, map_location)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Says that all files were handed over."""
        return bool(self._plain.commit(info))


def _copied(value: Any, storages: dict[tuple[torch.device, int], UntypedStorage]) -> Any:
    """Copies the tensors in containers; those that share memory share it again, as in a file."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        key = storage.device, storage.data_ptr()
        if key not in storages:
            on_cpu = storage.device.type == "cpu"
            storages[key] = storage.clone() if on_cpu else storage.cpu()  # type: ignore[no-untyped-call]
        copy = torch.empty(0, dtype=value.dtype)
        return copy.set_(storages[key], value.storage_offset(), value.shape, value.stride())
    if isinstance(value, dict):
        return type(value)((key, _copied(item, storages)) for key, item in value.items())
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_copied(item, storages) for item in value)
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _checksum(path: Path, *, verify: bool) -> dict[str, Any]:
    """Size and SHA-256 of a file.

    To verify is to flush it to the disk and to compare what can be read again with the CRC-32 of each tensor, which
    ``torch.save`` computes in memory.

    Raises:
        InputError: they differ.
    """
    if verify:
        flush(path)
        bad = _first_bad_member(path)
        if bad is not None:
            raise InputError(f"{path}: what the disk holds is not what was written ({bad}); check the disk")
    with path.open("rb") as stream:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _first_bad_member(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
