"""Writes a new set of shards from what is left of other sets.

A tar in which nothing changes becomes a hard link to the old one, or a copy if the new folder is on another disk. Only
the other tars are written again. The folder gets its name when everything is in it: a kill at any moment leaves the old
sets and at most an unfinished folder ``.DIR.*.tmp`` beside the new one. Nobody else takes it for a set, and the next
run to the same folder removes it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from parsers.command import InputError, progress
from shards import index
from shards.edit.removal import Removal, take_out
from shards.manifest import MANIFEST, Manifest, ShardInfo, Totals
from shards.reader import ShardSet
from shards.storage.errors import ShardError
from shards.storage.files import check_free_disk, flush
from shards.storage.folders import LocalFolder
from shards.storage.lock import LOCK, lock_folder
from shards.storage.scratch import new_folder
from shards.vocabulary import VOCABULARY
from shards.writer import ShardWriter


def write_set(out: Path, parts: Sequence[tuple[ShardSet, Removal]]) -> Manifest:
    """Writes what is left of some sets, one after the other, as a new set.

    Args:
        out: the folder of the new set.
        parts: each set, and what is taken out of it.

    Raises:
        InputError: the sets do not fit together, ``out`` exists already, another run writes to it, a tar that must be
            written again has a damaged sample, or the disk is too small.
    """
    sets = [shards for shards, _ in parts]
    check_alike(sets)
    if out.exists() and (not out.is_dir() or any(child.name != LOCK for child in out.iterdir())):
        raise InputError(f"{out} is there already; name another --out folder")
    changed = [{shard for shard, _ in locate(shards, removal.keys).values()} for shards, removal in parts]
    with lock_folder(out), _unfinished(out) as folder:
        _check_disk(out, sets, changed)
        new = _NewSet(folder)
        with progress("edit", sum(len(shards.manifest.shards) for shards in sets), "shard") as advance:
            for (shards, removal), numbers in zip(parts, changed, strict=True):
                for number in range(len(shards.manifest.shards)):
                    if number in numbers:
                        new.rewrite(shards, number, removal)
                    else:
                        new.link(shards, number)
                    advance(1)
        return new.finish(sets)


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """Makes a scratch folder, which becomes ``out`` when the context is left.

    Raises:
        InputError: ``out`` holds something by then, or the disk cannot be written.
    """
    try:
        with new_folder(out) as folder:
            yield folder
    except OSError as error:
        raise InputError(f"{out}: could not be written: {error}; the old sets are as they were") from error


def locate(shards: ShardSet, keys: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The (shard, row) of each sample that has one of some keys, by its key."""
    wanted = pa.array(keys, pa.string())
    found: dict[str, tuple[int, int]] = {}
    start = 0
    for batch in shards.key_batches():
        rows = np.flatnonzero(pc.is_in(batch, value_set=wanted).to_numpy(zero_copy_only=False))
        places = shards.places(start + rows).tolist()
        found |= {key: (shard, row) for key, (shard, row) in zip(batch.take(rows).to_pylist(), places, strict=True)}
        start += len(batch)
    return found


def check_alike(sets: Sequence[ShardSet]) -> None:
    """Checks that some sets can become one.

    Raises:
        InputError: a set is not on this machine, its vocabulary is not the one it was packed with, or two sets differ
            in a setting of their manifests.
    """
    first = sets[0]
    for shards in sets:
        if not isinstance(shards.folder, LocalFolder):
            raise InputError(f"{shards.location} is not on this machine; copy it to a folder first")
        shards.check_vocabulary()
        if differing := first.manifest.differences(shards.manifest):
            raise InputError(
                f"{first.location} and {shards.location} cannot be one set of shards: {'; '.join(differing)}"
            )


def _check_disk(out: Path, sets: Sequence[ShardSet], changed: Sequence[set[int]]) -> None:
    existing = next(path for path in out.absolute().parents if path.exists())
    needed = 0
    for shards, numbers in zip(sets, changed, strict=True):
        needed += sum(shards.files[file.name] for file in index.files_of(shards.manifest))
        linked = existing.stat().st_dev == Path(shards.location).stat().st_dev
        needed += sum(
            info.bytes for number, info in enumerate(shards.manifest.shards) if number in numbers or not linked
        )
    check_free_disk(existing, needed, str(out))


class _NewSet:
    """A set that is being written: the tars first, then the vocabulary, the index and the manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._removed = Totals()
        self._tables: list[Callable[[], pa.Table]] = []
        self._shards: list[ShardInfo] = []
        self._names: set[str] = set()
        self._next = 0

    def link(self, shards: ShardSet, number: int) -> None:
        """Adds a shard that does not change."""
        info = shards.manifest.shards[number]
        name = self._name(info.file)
        source, target = Path(shards.folder.path(info.file)), self._folder / name
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, target)
            flush(target)
        self._shards.append(info.model_copy(update={"file": name}))
        self._tables.append(partial(shards.index_table, number))

    def rewrite(self, shards: ShardSet, number: int, removal: Removal) -> None:
        """Adds what is left of a shard, if anything is."""
        kept = []
        for row in range(shards.manifest.shards[number].samples):
            sample = shards.sample(number, row)
            left = take_out(sample, removal)
            if left is not None and not shards.is_as_written(number, row):
                raise ShardError(
                    f"{shards.where(number, row)} is damaged, and its tar must be written again; restore the tar, or "
                    "remove this image too"
                )
            if left is not sample:
                self._removed += Totals.of(sample)
            if left is not None:
                kept.append(left)
                if left is not sample:
                    self._removed -= Totals.of(left)
        if not kept:
            return
        name = self._name(shards.manifest.shards[number].file)
        with (self._folder / name).open("wb") as stream, ShardWriter(stream, name) as writer:
            for sample in kept:
                writer.write(sample)
        flush(self._folder / name)
        self._shards.append(writer.info)
        self._tables.append(partial(index.to_table, writer.rows))

    def _name(self, file: str) -> str:
        """The name of a tar in the new set: the old one, or the next free number if an earlier set has taken that."""
        if file in self._names:
            file = f"shard-{self._next:05d}.tar"
        self._names.add(file)
        if numbered := re.fullmatch(r"shard-(\d+)\.tar", file):
            self._next = max(self._next, int(numbered[1]) + 1)
        return file

    def finish(self, sets: Sequence[ShardSet]) -> Manifest:
        """Writes the vocabulary, the index and the manifest."""
        self._write(VOCABULARY, sets[0].vocabulary_bytes)
        tables = (table() for table in self._tables)
        schema = index.schema_of(sets[0].manifest)
        sha256 = index.write_files(tables, len(self._tables), self._write, schema)
        totals = sum((shards.manifest.totals for shards in sets), Totals()) - self._removed
        changes = {"totals": totals, "index_sha256": sha256, "shards": self._shards}
        manifest = sets[0].manifest.model_copy(update=changes)
        self._write(MANIFEST, manifest.to_bytes())
        flush(self._folder)
        return manifest

    def _write(self, file: str, data: bytes) -> None:
        (self._folder / file).write_bytes(data)
        flush(self._folder / file)
