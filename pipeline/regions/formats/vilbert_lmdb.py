"""Regions as ViLBERT's converters write them: an LMDB of pickles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lmdb

from parsers.command import InputError, pluralize
from pipeline.execution.parts import Reject
from pipeline.regions.formats.records import NEEDED, Record, record_info, record_row
from pipeline.regions.rows import RegionRows
from shards.regions.table import RegionsInfo
from shards.storage import pickles
from shards.storage.files import AnyPath


@dataclass(frozen=True)
class Keys:
    """A run of records of an LMDB."""

    path: AnyPath
    keys: tuple[bytes, ...]


class VilbertLmdb:
    """Reads an LMDB of pickled dicts in both published layouts: arrays are base64 (ViLBERT) or pickled (12-in-1).

    The record under ``keys`` is not needed. Pickles are read without running their code.
    """

    def files(self, sources: Sequence[AnyPath]) -> list[AnyPath]:
        """Returns the data file of each environment."""
        return [_data_file(source) for source in sources]

    def inspect(
        self, sources: Sequence[AnyPath], class_names: list[str] | None, feature_size: int | None = None
    ) -> RegionsInfo:
        """See `RegionFormat`."""
        for path in self.files(sources):
            with _open(path) as environment, environment.begin() as transaction:
                for key, value in transaction.cursor():
                    try:
                        if key != b"keys":
                            return record_info(path, _record(value), class_names, feature_size)
                    except ValueError:
                        continue
        raise InputError(f"{sources[0]}: no record with the values {NEEDED}")

    def partitions(self, files: Sequence[AnyPath], size: int) -> Iterator[Keys]:
        """Yields runs of ``size`` keys, in the order of the LMDB."""
        for path in files:
            after = b""
            while keys := _keys_after(path, after, size):
                yield Keys(path, tuple(key for key in keys if key != b"keys"))
                after = keys[-1]

    def read(self, partition: Keys, info: RegionsInfo) -> RegionRows:
        """See `RegionFormat`."""
        with _open(partition.path) as environment, environment.begin() as transaction:
            for key in partition.keys:
                try:
                    yield record_row(_record(transaction.get(key) or b""), info)
                except ValueError as error:
                    yield Reject(str(partition.path), f"key {key.decode(errors='backslashreplace')}", str(error))


def _keys_after(path: AnyPath, last: bytes, count: int) -> list[bytes]:
    """Returns the next keys. The LMDB is closed between two calls, because a process may not open it twice."""
    with _open(path) as environment, environment.begin() as transaction:
        cursor = transaction.cursor()
        cursor.set_range(last)
        keys = (bytes(key) for key in cursor.iternext(keys=True, values=False))
        return list(islice((key for key in keys if key != last), count))


def _record(data: bytes) -> Record:
    record = pickles.load(data)
    if not isinstance(record, dict):
        raise ValueError("its pickle is no dict")
    return record


def _data_file(source: AnyPath) -> Path:
    if not isinstance(source, Path):
        raise InputError(f"{source}: an LMDB is read through memory and must lie on a local disk; copy it first")
    return source / "data.mdb" if source.is_dir() else source


def _open(path: AnyPath) -> lmdb.Environment:
    """Opens an LMDB.

    Raises:
        InputError: it is no LMDB, or it is shorter than it says: reading beyond its end would end the process.
    """
    try:
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, subdir=False)
    except lmdb.Error as error:
        raise InputError(f"{path}: cannot be read as an LMDB: {error}") from error
    pages = environment.info()["last_pgno"] + 1
    if path.stat().st_size < pages * environment.stat()["psize"]:
        environment.close()
        raise InputError(
            f"{path}: is cut off: it has {pluralize(path.stat().st_size, 'byte')} but names {pluralize(pages, 'page')}"
        )
    return environment
