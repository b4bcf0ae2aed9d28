"""Regions as ViLBERT's converters write them: an LMDB of pickles."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.regions.formats import lmdb_process
from pipeline.regions.formats.lmdb_process import HEADER
from pipeline.regions.formats.records import NEEDED, Record, record_info, record_row
from pipeline.regions.rows import RegionRows
from shards.regions.table import RegionsInfo
from shards.storage import pickles
from shards.storage.files import AnyPath

_ALL = 1 << 62
_KEYS = b"keys"
"""The record that lists the keys of all others. It is not needed."""


@dataclass(frozen=True)
class Keys:
    """A run of records of an LMDB."""

    path: AnyPath
    keys: tuple[bytes, ...]


class VilbertLmdb:
    """Reads an LMDB of pickled dicts in both published layouts: arrays are base64 (ViLBERT) or pickled (12-in-1).

    Pickles are read without running their code. The LMDB is read in a process of its own, see `lmdb_process`.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the data file of each environment."""
        return [_data_file(source) for source in sources]

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            for key, value in _records(path, b"", _ALL):
                try:
                    if key != _KEYS:
                        return record_info(path, _record(value), class_names, feature_size)
                except ValueError:
                    continue
        raise InputError(f"{sources[0]}: no record with the values {NEEDED}")

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Keys]:
        """Yields runs of ``size`` keys, in the order of the LMDB."""
        for path in files:
            keys = (key for key, _ in _records(path, b"", _ALL, "--keys") if key != _KEYS)
            while run := tuple(islice(keys, size)):
                yield Keys(path, run)

    def read(self, partition: Keys, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        wanted = set(partition.keys)
        for key, value in _records(partition.path, partition.keys[0], len(wanted) + 1):
            if key not in wanted:  # the list of keys, or the first record of the next run
                continue
            wanted.remove(key)
            try:
                yield record_row(_record(value), info)
            except ValueError as error:
                yield Reject(str(partition.path), f"key {key.decode(errors='backslashreplace')}", str(error))
        if wanted:
            raise InputError(f"{partition.path}: lost records while it was read; nothing may write to it meanwhile")


def _records(path: AnyPath, start: bytes, count: int, *options: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values of an LMDB from the key ``start`` on, ``count`` at most. Values are empty with ``--keys``.

    Raises:
        InputError: it is no LMDB, or damaged.
    """
    command = [sys.executable, "-P", lmdb_process.__file__, str(path), start.hex(), str(count), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            while len(header := process.stdout.read(HEADER.size)) == HEADER.size:
                key_bytes, value_bytes = HEADER.unpack(header)
                key, value = process.stdout.read(key_bytes), process.stdout.read(max(value_bytes, 0))
                if value_bytes < 0:
                    if key:
                        raise InputError(f"{path}: {key.decode()}")
                    return
                if len(value) < value_bytes:
                    break
                yield key, value
        finally:
            process.kill()
    raise InputError(
        f"{path}: is damaged: reading it ended its process ({_describe_end(process.returncode)}); copy it again"
    )


def _describe_end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _record(data: bytes) -> Record:
    record = pickles.unpickle(data)
    if not isinstance(record, dict):
        raise ValueError("its pickle is no dict")
    return record


def _data_file(source: AnyPath) -> Path:
    if not isinstance(source, Path):
        raise InputError(f"{source}: an LMDB is read through memory and must lie on a local disk; copy it first")
    return source / "data.mdb" if source.is_dir() else source
