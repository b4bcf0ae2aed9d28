"""Checks every byte of a set of shards.

Each tar is compared with its checksum, the index with the tars, and each sample with the schema.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from parsers.command import InputError
from parsers.graph import SceneGraph
from shards import index
from shards.manifest import MANIFEST, Totals, read_manifest
from shards.nodes import number_nodes
from shards.reader import ShardSet
from shards.sample_reader import ShardIndex
from shards.schema import MEMBERS, NEGATIVE_KINDS, Masks, NegativeMasks, Sample, image_id_of_key
from shards.storage.cache import Cache
from shards.storage.errors import ShardError
from shards.storage.files import write_atomic
from shards.storage.folders import LocalFolder, map_file
from shards.storage.tars import walk_tar
from shards.storage.workers import follow_parent
from shards.vocabulary import VOCABULARY


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file or a sample."""

    where: str
    what: str


@dataclass(frozen=True)
class Findings:
    """The result of checking one shard."""

    problems: list[Problem]
    totals: Totals
    """counts of the sound samples"""


def verify_set(shards: ShardSet, *, workers: int = 1) -> Iterator[tuple[str, list[Problem]]]:
    """Checks the shards one after the other, then the set as a whole.

    Open the set with ``check_tars=False``, so that missing and cut tars are reported here.

    Returns:
        For each shard its file and its problems; last the location of the set and the problems of the whole.
    """
    totals, whole = Totals(), True
    for info, findings in zip(shards.manifest.shards, _each_shard(shards, workers), strict=True):
        totals += findings.totals
        whole = whole and not findings.problems
        yield info.file, findings.problems
    problems = list(_verify_set(shards))
    if whole and totals != shards.manifest.totals:
        problems.append(Problem(shards.folder.path(MANIFEST), "its totals are not those of the samples"))
    yield shards.location, problems


def _each_shard(shards: ShardSet, workers: int) -> Iterator[Findings]:
    numbers = range(len(shards.manifest.shards))
    if workers == 1:
        pieces = _vocabulary_size(shards)
        for number in numbers:
            yield verify_shard(shards, number, pieces)
        return
    spawn = multiprocessing.get_context("spawn")
    opened = (shards.location, shards.cache)
    with ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=opened) as pool:
        yield from pool.map(_verify_in_worker, numbers)


_worker: tuple[ShardSet, int] | None = None


def _start_worker(location: str, cache: Cache | None) -> None:
    global _worker
    follow_parent()
    shards = ShardSet(location, cache, check_tars=False)
    _worker = shards, _vocabulary_size(shards)


def _verify_in_worker(number: int) -> Findings:
    assert _worker is not None
    return verify_shard(_worker[0], number, _worker[1])


def _vocabulary_size(shards: ShardSet) -> int:
    try:
        return len(shards.vocabulary)
    except InputError:  # `_verify_set` reports the vocabulary
        return shards.manifest.tokenizer.size


# ------------------------------------------------------------------------------------------------------------ the set


def _verify_set(shards: ShardSet) -> Iterator[Problem]:
    path = shards.folder.path(VOCABULARY)
    try:
        shards.check_vocabulary()
    except InputError as error:
        yield Problem(path, str(error).removeprefix(path).lstrip(": "))
    for key in index.repeated(shards.keys):
        yield Problem(shards.location, f"sample {key} is there twice")
    listed = {shard.file for shard in shards.manifest.shards}
    for file in sorted(shards.files):
        if file.endswith(".tar") and file not in listed:
            yield Problem(shards.folder.path(file), "belongs to another set: the manifest does not list it")


# ---------------------------------------------------------------------------------------------------------- one shard


def verify_shard(shards: ShardSet, number: int, pieces: int) -> Findings:
    """Checks a tar and its samples. The first bad sample is named, further ones are counted.

    Args:
        shards: the set.
        number: the shard.
        pieces: the number of word pieces in the vocabulary.
    """
    info = shards.manifest.shards[number]
    path = shards.folder.path(info.file)
    try:
        data = shards.map(number)
    except FileNotFoundError:
        return Findings([Problem(path, "is missing; the manifest lists it")], Totals())
    except (ValueError, InputError) as error:  # an empty file cannot be mapped; a remote file may be damaged
        return Findings([Problem(path, str(error))], Totals())
    problems = list(_verify_tar(shards, number, data))
    totals, bad = Totals(), []
    for row in range(len(shards.shard(number).keys)):
        what = []
        if not shards.is_as_written(number, row):
            what.append("its checksum differs from the index's")
        try:
            sample = shards.sample(number, row)
            _verify_sample(shards, number, row, sample, pieces)
            totals += Totals.of(sample)
        except ShardError as error:
            what.append(str(error).removeprefix(shards.where(number, row)).lstrip(":, "))
        except ValueError as error:
            what.append(str(error))
        if what:
            bad.append(Problem(shards.where(number, row), ": ".join(what)))
    problems += bad[:1]
    if len(bad) > 1:
        problems.append(Problem(path, f"{len(bad) - 1:,} more of its {info.samples:,} samples are damaged"))
    return Findings(problems, totals)


def _verify_tar(shards: ShardSet, number: int, data: memoryview) -> Iterator[Problem]:
    info = shards.manifest.shards[number]
    path = shards.folder.path(info.file)
    if len(data) != info.bytes:
        yield Problem(path, f"has {len(data):,} bytes, the manifest says {info.bytes:,}: it was cut or changed")
    elif hashlib.sha256(data).hexdigest() != info.sha256:
        yield Problem(path, "its sha256 differs from the manifest's: the file was changed or damaged")
    rows = shards.shard(number)
    expected = [
        (f"{key}.{member}", *extent)
        for key, extents in zip(rows.keys, rows.extents.tolist(), strict=True)
        for member, extent in zip(MEMBERS, extents, strict=True)
        if extent[0] >= 0
    ]
    try:
        found = [(entry.name, entry.offset_data, entry.size) for entry in walk_tar(cast(BinaryIO, data.obj))]
    except tarfile.TarError as error:
        yield Problem(path, f"cannot be read as a tar: {error}")
        return
    if found != expected:
        first = next((e for e, f in zip(expected, found, strict=False) if e != f), None)
        what = f"first at {first[0]}" if first else f"{len(found):,} members, {len(expected):,} in the index"
        yield Problem(path, f"its members differ from the index: {what}")


def _verify_sample(shards: ShardSet, number: int, row: int, sample: Sample, pieces: int) -> None:
    """Compares a sample with the schema, the index, the manifest and the vocabulary.

    Raises:
        ValueError: the sample does not fit one of them.
    """
    rows, manifest = shards.shard(number), shards.manifest
    sample.regions.check(sample.width, sample.height)
    sample.masks.check()
    if image_id_of_key(rows.keys[row]) != sample.image_id:
        raise ValueError(f"its record is that of image {sample.image_id!r}")
    if [sample.width, sample.height] != rows.sizes[row].tolist():
        raise ValueError("the size of the image differs from the index")
    tokens = np.diff(sample.masks.token_offsets).tolist()
    first, last = rows.caption_offsets[row : row + 2].tolist()
    if len(sample.captions) != len(tokens) or tokens != rows.tokens[first:last].tolist():
        raise ValueError("captions, word pieces and index differ")
    ids = sample.masks.token_ids
    if len(ids) and not 0 <= ids.min() <= ids.max() < pieces:
        raise ValueError("a word piece outside the vocabulary")
    classes, known = sample.regions.class_ids, manifest.classes
    counts = (known.count, None if known.names is None else len(known.names))
    limits = [count for count in counts if count is not None]
    if classes is not None and limits and classes.max(initial=0) >= min(limits):
        raise ValueError("a class id outside the classes of the manifest")
    _compare_nodes(sample.masks, [caption.graph for caption in sample.captions], "masks.npz")
    if sample.negative_masks is not None:
        sample.negative_masks.check(len(sample.captions))
        _verify_negatives(rows, row, sample, sample.negative_masks, pieces)


def _compare_nodes(masks: Masks, graphs: Sequence[SceneGraph], file: str) -> None:
    for name, expected in zip(("node_kind", "node_caption", "node_args"), number_nodes(graphs), strict=True):
        if not np.array_equal(getattr(masks, name), expected):
            raise ValueError(f"the nodes of the graphs differ from those in {file} ({name})")


def _verify_negatives(rows: ShardIndex, row: int, sample: Sample, negatives: NegativeMasks, pieces: int) -> None:
    first, last = rows.negative_offsets[row : row + 2].tolist()
    ids = negatives.masks.token_ids
    kinds = [NEGATIVE_KINDS.index(negative.kind) for negative in sample.negatives]
    if (
        np.diff(negatives.masks.token_offsets).tolist() != rows.negative_tokens[first:last].tolist()
        or negatives.kinds.tolist() != kinds
        or rows.negative_kinds[first:last].tolist() != kinds
        or negatives.captions.tolist() != [negative.caption for negative in sample.negatives]
    ):
        raise ValueError("false captions, their word pieces and the index differ")
    if len(ids) and not 0 <= ids.min() <= ids.max() < pieces:
        raise ValueError("a word piece of a false caption outside the vocabulary")
    _compare_nodes(negatives.masks, [negative.graph for negative in sample.negatives], "negatives.npz")


# ------------------------------------------------------------------------------------------------------------- repair


def repair_index(folder: Path) -> bool:
    """Makes ``index.parquet`` anew from the tars.

    This is only done if every byte of the tars is as the manifest says. The new index has the same content as the old
    one had. If another version of Arrow writes it in other bytes, the manifest gets the new checksum.

    Returns:
        Whether a file changed.

    Raises:
        InputError: the manifest or a tar is missing or damaged.
    """
    local = LocalFolder(folder)
    manifest = read_manifest(local, local.sizes())
    tables = []
    for shard in manifest.shards:
        path = folder / shard.file
        try:
            mapped = map_file(path.open("rb"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read, so the index cannot be made from it: {error}") from error
        if hashlib.sha256(mapped).hexdigest() != shard.sha256:
            raise InputError(f"{path} is not as the manifest says; the index is only made from sound tars")
        try:
            tables.append(index.rows_of_tar(memoryview(mapped), cast(BinaryIO, mapped)))
        except (ValueError, tarfile.TarError) as error:
            raise InputError(f"{path}: {error}") from error
    changed = []

    def save(name: str, data: bytes) -> None:
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            write_atomic(folder / name, data)
            changed.append(name)

    sha256 = index.write_files(tables, len(tables), save, index.schema_of(manifest))
    if sha256 != manifest.index_sha256:
        changed.append(MANIFEST)
        write_atomic(folder / MANIFEST, manifest.model_copy(update={"index_sha256": sha256}).to_bytes())
    return bool(changed)
