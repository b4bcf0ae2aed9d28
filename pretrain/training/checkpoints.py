"""Checkpoints to resume from. One appears only when it is complete and was read again after it was written.

A checkpoint is a folder of DeepSpeed's files, some from each rank. Their content is copied, and is written under a
temporary name while training goes on. Each file is then read from the disk and compared with the checksums that were
taken in memory. At last the folder is renamed. Its ``checkpoint.json`` holds the sizes and checksums of the files, the
state of the loop, and the fingerprint of the run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NotRequired

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from parsers.command import InputError
from pretrain.training.best import BestState
from pretrain.training.checkpoint_files import (
    REFUSED,
    CopyingEngine,
    FileRecord,
    convert,
    record_file,
    refuse_code,
    verify_file,
)
from pretrain.training.distributed import DistributedContext
from shards.storage.files import check_free_disk, flush, read_record, write_atomic, write_record

LATEST = "latest"
RECORD = "checkpoint.json"
_PREFIX, _TEMPORARY = "step-", ".writing-"
_NAME = re.compile(rf"{_PREFIX}\d{{1,18}}")
_BYTES_PER_PARAMETER = 16
"""The most that a first checkpoint takes: fp32 weights, two moments, and the weights in the model's own type."""


class LoopState(BestState):
    """The state of the loop, from which a run continues."""

    step: Annotated[int, Field(ge=0)]
    """steps that were done"""
    threads: NotRequired[Annotated[int, Field(ge=1)] | None]
    """threads of each process on a CPU; older checkpoints lack it"""
    to_evaluate: NotRequired[bool]
    """whether the evaluation of this step comes after the checkpoint and has not ended"""


class _Record(TypedDict):
    """``checkpoint.json``."""

    step: int
    ranks: Annotated[int, Field(ge=1)]
    state: LoopState
    identity: dict[str, object]
    """the fingerprint of the run; the key is that of checkpoints that exist"""
    files: dict[str, FileRecord]
    """by name"""


_RECORD_TYPE = TypeAdapter(_Record)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of this run that was found complete."""

    folder: Path
    ranks: int
    """number of ranks that have written it"""
    state: LoopState

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return _size(self.folder)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint that is being written."""

    folder: Path
    """the temporary name"""
    target: Path
    """the name under which it appears"""
    record: _Record
    """without the files"""
    files: Future[dict[str, FileRecord]]
    """this rank's files by name"""


class Checkpoints:
    """The last few checkpoints of a run. All ranks call its methods together.

    Attributes:
        folder: holds the checkpoints.
        waited: seconds that training has waited for checkpoints.
    """

    def __init__(
        self, folder: Path, *, keep: int, fingerprint: Mapping[str, object], world: DistributedContext
    ) -> None:
        """Takes over the checkpoints of a folder, which need not exist.

        Args:
            folder: of the checkpoints.
            keep: how many of them stay.
            fingerprint: what a resumed run must have in common with the one that wrote a checkpoint, as JSON values.
            world: the ranks.
        """
        self.folder = folder
        self.waited = 0.0
        self._keep = keep
        self._fingerprint = dict(fingerprint)
        self._world = world
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: _Writing | None = None

    def exist(self) -> bool:
        """Whether there is one."""
        return (self.folder / LATEST).is_file()

    # --------------------------------------------------------------------------------------------------------- write

    def begin(self, engine: deepspeed.DeepSpeedEngine, state: LoopState) -> None:
        """Copies what a checkpoint holds, and begins to write it. The one before is finished first.

        Raises:
            InputError: the disk has no room for it, or the one before could not be written. The earlier checkpoints
                are as they were.
        """
        self.finish()
        with self._waiting():
            step = state["step"]
            writing, target = self.folder / f"{_TEMPORARY}{step}", self.folder / f"{_PREFIX}{step}"
            self._world.on_first(lambda: self._make_room(engine))
            plain = engine.checkpoint_engine
            engine.checkpoint_engine = copies = CopyingEngine(plain)
            try:
                engine.save_checkpoint(str(self.folder), tag=writing.name, save_latest=False)
            except (OSError, RuntimeError) as error:
                # The other ranks wait for this one inside DeepSpeed; they end with the process group.
                raise self._cannot_be_written(target, error) from error
            finally:
                engine.checkpoint_engine = plain
            record = _Record(step=step, ranks=self._world.size, state=state, identity=self._fingerprint, files={})
            files = self._thread.submit(self._write, copies.files, plain, target)
            self._writing = _Writing(writing, target, record, files)

    def publish_written(self) -> None:
        """Finishes a checkpoint that all ranks have written; one that is still being written is left alone."""
        if self._writing is None:  # on all ranks alike
            return
        with self._waiting():
            done = torch.tensor([float(self._writing.files.done())], device=self._world.device)
            all_done = self._world.all_reduce(done).item() == self._world.size
        if all_done:
            self.finish()

    def finish(self) -> None:
        """Waits until all ranks have written what they began, and makes it appear; older checkpoints are removed.

        Does nothing where nothing was begun.

        Raises:
            InputError: it could not be written. The earlier checkpoints are as they were.
        """
        if self._writing is None:
            return
        with self._waiting():
            writing, self._writing = self._writing, None
            files = self._world.share(writing.files.result)
            self._world.on_first(lambda: self._publish(writing, files))

    def update(self, state: LoopState) -> None:
        """Replaces the state of the loop in the latest checkpoint, which is finished."""
        path = self.folder / f"{_PREFIX}{state['step']}" / RECORD
        self._world.on_first(lambda: write_record(read_record(path) | {"state": state}, path))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - started

    def _write(self, files: dict[Path, object], plain: CheckpointEngine, target: Path) -> dict[str, FileRecord]:
        """Writes this rank's files, reads each one again, and returns their records by name. Runs in the thread.

        ``files`` is emptied on the way. InputError: ``target`` cannot be written, or the disk holds something else.
        """
        found = {}
        try:
            for path in list(files):
                plain.save(files.pop(path), str(path))
                found[path.name] = verify_file(path)
        except (OSError, RuntimeError) as error:
            raise self._cannot_be_written(target, error) from error
        return found

    def _publish(self, writing: _Writing, files: dict[str, FileRecord]) -> None:
        write_record(writing.record | {"files": files}, writing.folder / RECORD)
        flush(writing.folder)
        if writing.target.exists():  # a run left it that was killed before it became the latest
            shutil.rmtree(writing.target)
        writing.folder.rename(writing.target)
        flush(self.folder)
        write_atomic(self.folder / LATEST, writing.target.name.encode())
        for old in self._found()[: -self._keep]:  # to remove gigabytes takes a while
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
        """The folders of all checkpoints, from the oldest to the newest."""
        found = (path for path in self.folder.glob(f"{_PREFIX}*") if _NAME.fullmatch(path.name))
        return sorted(found, key=lambda path: int(path.name.removeprefix(_PREFIX)))

    def _cannot_be_written(self, target: Path, error: Exception) -> InputError:
        advice = "continue with --resume" if self.exist() else "start again"
        return InputError(f"{target}: cannot be written: {error}; make room and {advice}")

    def _read_files(self, folder: Path) -> dict[str, FileRecord]:
        """Reads this rank's share of the files from the disk and returns their records."""
        return {
            path.name: record_file(path)
            for number, path in enumerate(sorted(folder.iterdir()))
            if path.name != RECORD and number % self._world.size == self._world.rank
        }

    def advise(self) -> str:
        """Says how to go on after the end of a run."""
        if not self.exist():
            return "There is no checkpoint yet: start again"
        latest = self.folder / _read(self.folder / LATEST)
        return f"The checkpoint is {latest}; to go on, run the same command with --resume"

    # ---------------------------------------------------------------------------------------------------------- read

    def find(self) -> Checkpoint:
        """Returns the latest checkpoint, after all of its bytes were compared with their checksums.

        Raises:
            InputError: it is damaged, or was written with other data or another recipe.
        """
        name = _read(self.folder / LATEST)
        if not _NAME.fullmatch(name):
            raise InputError(f"{self.folder / LATEST}: names no checkpoint; {self._alternatives(self.folder / LATEST)}")
        return self._check(self.folder / name)

    def last(self, count: int) -> list[Checkpoint]:
        """Returns the last ``count`` checkpoints, the newest last, without those of another number of ranks.

        Their bytes are compared with their checksums.

        Raises:
            InputError: one is damaged.
        """
        checkpoints = [self._check(folder) for folder in self._found()[-count:]]
        return [checkpoint for checkpoint in checkpoints if checkpoint.ranks == self._world.size]

    def _check(self, folder: Path) -> Checkpoint:
        try:
            record = _RECORD_TYPE.validate_python(read_record(folder / RECORD))
        except InputError as error:
            problem = str(error).removeprefix(f"{folder / RECORD}: ")
            raise InputError(f"{folder / RECORD}: is damaged: {problem}; {self._alternatives(folder)}") from error
        except ValidationError as error:
            problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors()[:3])
            raise InputError(f"{folder / RECORD}: is damaged: {problem}; {self._alternatives(folder)}") from error
        found, files = record["identity"], record["files"]
        differing = [
            key for key in sorted({*found, *self._fingerprint}) if found.get(key) != self._fingerprint.get(key)
        ]
        if differing:
            changes = "; ".join(f"{key}: {found.get(key)} -> {self._fingerprint.get(key)}" for key in differing)
            raise InputError(
                f"{self.folder} belongs to another run ({changes}); resume with the same, or name another --out"
            )
        on_disk = self._world.share(lambda: self._read_files(folder))
        damaged = [name for name in sorted({*files, *on_disk}) if files.get(name) != on_disk.get(name)]
        if damaged:
            what = ", ".join(f"{name} ({'differs' if name in on_disk else 'is missing'})" for name in damaged)
            raise InputError(f"{folder}: is damaged: {what}; {self._alternatives(folder)}")
        return Checkpoint(folder, record["ranks"], record["state"])

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
            with refuse_code(checkpoint.folder):
                path, _ = engine.load_checkpoint(str(self.folder), tag=folder.name)
        except InputError:
            raise
        except Exception as error:  # whatever a stranger's values bring about in DeepSpeed
            raise InputError(f"{folder}: cannot be loaded: {error!r}") from error
        if path is None:
            raise InputError(f"{folder}: cannot be loaded")
        self._world.on_first(lambda: shutil.rmtree(self.folder / f"{_TEMPORARY}universal", ignore_errors=True))

    def _convert(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Writes the checkpoint in DeepSpeed's universal format."""
        shutil.rmtree(folder, ignore_errors=True)
        check_free_disk(folder, 2 * checkpoint.size, "the conversion to another number of ranks")
        command = [
            sys.executable,
            "-c",
            f"from {convert.__module__} import convert; convert()",
            "--inject_missing_state",
        ]
        command += ["--input_folder", str(checkpoint.folder), "--output_folder", str(folder)]
        launcher = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}
        environment = {key: value for key, value in os.environ.items() if key not in launcher}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # a script has put its project there
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        (self.folder / "latest_universal").unlink(missing_ok=True)
        if done.returncode != 0:
            tail = (done.stdout + done.stderr).strip().splitlines()[-1:]
            if done.returncode == REFUSED:
                raise InputError(" ".join(tail))
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
