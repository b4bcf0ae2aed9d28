"""Checkpoints to resume from: they appear whole or not at all, and are read again after they are written.

DeepSpeed writes a folder of files, some by each rank. It does so under a temporary name; every file is then read from
the disk and compared with the checksums that were taken from memory; last comes a rename. ``checkpoint.json`` in the
folder holds the sizes and checksums, the state of the loop, and what the run was.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed

from pretrain.training.world import World
from shards.errors import InputError
from shards.files import check_free_disk, flush, write_atomic

LATEST = "latest"
RECORD = "checkpoint.json"
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


class Checkpoints:
    """The last few checkpoints of a run. All ranks call its methods together."""

    def __init__(self, folder: Path, *, keep: int, identity: Mapping[str, Any], world: World) -> None:
        self.folder = folder
        self._keep = keep
        self._identity = dict(identity)
        self._world = world

    def exist(self) -> bool:
        """Whether there is one."""
        return (self.folder / LATEST).is_file()

    # --------------------------------------------------------------------------------------------------------- write

    def save(self, engine: deepspeed.DeepSpeedEngine, step: int, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; older ones are removed once it is complete.

        Raises:
            InputError: it cannot be written. The earlier checkpoints are as they were.
        """
        writing, target = self.folder / f"{_TEMPORARY}{step}", self.folder / f"{_PREFIX}{step}"
        self._world.on_first(lambda: self._make_room(engine))
        try:
            engine.save_checkpoint(str(self.folder), tag=writing.name, save_latest=False)
        except (OSError, RuntimeError) as error:
            # The other ranks wait for this one inside DeepSpeed; they end with the process group.
            raise InputError(f"{target}: cannot be written: {error}; {self._advice()}") from error
        files = self._world.share(lambda: self._checksums(writing, verify=True))

        def publish() -> None:
            record = {
                "step": step,
                "ranks": self._world.size,
                "state": dict(state),
                "identity": self._identity,
                "files": files,
            }
            write_atomic(writing / RECORD, json.dumps(record, indent=1).encode())
            flush(writing)
            if target.exists():  # left by a run that was killed before it became the latest
                shutil.rmtree(target)
            writing.rename(target)
            flush(self.folder)
            write_atomic(self.folder / LATEST, target.name.encode())
            for old in self._found()[: -self._keep]:
                shutil.rmtree(old)

        self._world.on_first(publish)

    def _make_room(self, engine: deepspeed.DeepSpeedEngine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover)
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

    def _checksums(self, folder: Path, *, verify: bool) -> dict[str, dict[str, Any]]:
        """Size and checksum of this rank's share of the files, read from the disk."""
        return {
            path.name: _checksum(path, verify=verify)
            for number, path in enumerate(sorted(folder.iterdir()))
            if path.name != RECORD and number % self._world.size == self._world.rank
        }

    # ---------------------------------------------------------------------------------------------------------- read

    def find(self) -> Checkpoint:
        """The latest checkpoint, after all of its bytes were compared with their checksums.

        Raises:
            InputError: it is damaged, or was written with other data or another recipe.
        """
        folder = self.folder / _read(self.folder / LATEST)
        try:
            record = json.loads(_read(folder / RECORD))
            found, files = record["identity"], record["files"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / RECORD}: is damaged: {error!r}; {self._alternatives(folder)}") from error
        differing = [key for key in sorted({*found, *self._identity}) if found.get(key) != self._identity.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {found.get(key)} -> {self._identity.get(key)}" for key in differing)
            raise InputError(
                f"{self.folder} belongs to another run ({changes}); resume with the same, or name another --out"
            )
        on_disk = self._world.share(lambda: self._checksums(folder, verify=False))
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
