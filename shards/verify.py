"""Checks every byte of a set of shards: tar against checksum, index against tar, samples against the schema."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.errors import InputError
from shards.reader import VOCABULARY, ShardSet
from shards.schema import MEMBERS, ShardInfo, Totals, image_id_of

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file or a sample."""

    where: str
    what: str


def verify(shards: ShardSet) -> Iterator[tuple[ShardInfo, list[Problem]]]:
    """Checks shard after shard; yields each with its problems and goes on after a bad one."""
    pieces = len(shards.vocabulary)
    for number, info in enumerate(shards.manifest.shards):
        problems = list(_verify_tar(shards.folder / info.file, shards, number))
        problems += _verify_samples(shards, number, pieces)
        yield info, problems


def verify_vocabulary(shards: ShardSet) -> list[Problem]:
    """Checks that the vocabulary is the one the captions were cut with."""
    path = shards.folder / VOCABULARY
    if not path.is_file():
        return [Problem(str(path), "is missing")]
    if hashlib.sha256(path.read_bytes()).hexdigest() == shards.manifest.tokenizer.sha256:
        return []
    return [Problem(str(path), "is not the vocabulary that the manifest names")]


def _verify_tar(path: Path, shards: ShardSet, number: int) -> Iterator[Problem]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != shards.manifest.shards[number].sha256:
        yield Problem(str(path), "its sha256 differs from the manifest's: the file was changed or damaged")
    index = shards.shard(number)
    expected = [
        (f"{key}.{member}", *extent)
        for key, extents in zip(index.keys, index.extents.tolist(), strict=True)
        for member, extent in zip(MEMBERS, extents, strict=True)
        if extent[0] >= 0
    ]
    try:
        with tarfile.open(path) as tar:
            found = [(entry.name, entry.offset_data, entry.size) for entry in tar]
    except tarfile.TarError as error:
        yield Problem(str(path), f"cannot be read as a tar: {error}")
        return
    if found != expected:
        first = next((e for e, f in zip(expected, found, strict=False) if e != f), None)
        what = f"first at {first[0]}" if first else f"{len(found):,} members, {len(expected):,} in the index"
        yield Problem(str(path), f"its members differ from the index: {what}")


def _verify_samples(shards: ShardSet, number: int, pieces: int) -> Iterator[Problem]:
    index = shards.shard(number)
    totals = Totals()
    for row, key in enumerate(index.keys):
        try:
            image_id, width, height, captions = shards.record(number, row)
            regions, masks = shards.regions(number, row), shards.masks(number, row)
            regions.check(width, height)
            masks.check()
            if image_id_of(key) != image_id:
                raise ValueError(f"its record is that of image {image_id!r}")
            tokens = np.diff(masks.token_offsets)
            stored = index.tokens[index.caption_offsets[row] : index.caption_offsets[row + 1]]
            if len(captions) != len(tokens) or tokens.tolist() != stored.tolist():
                raise ValueError("captions, word pieces and index differ")
            if len(masks.token_ids) and not 0 <= masks.token_ids.min() <= masks.token_ids.max() < pieces:
                raise ValueError("a word piece outside the vocabulary")
            if len(regions.boxes) != index.num_boxes[row] or regions.features.shape[1] != shards.manifest.feature_size:
                raise ValueError("regions differ from index or manifest in number or size")
            graphs = [caption.graph for caption in captions]
            kinds = np.bincount(masks.node_kind, minlength=3).tolist()
            if kinds != [sum(len(getattr(g, k)) for g in graphs) for k in ("objects", "attributes", "relations")]:
                raise ValueError("the nodes of the graphs differ from those in masks.npz")
        except (ValueError, InputError) as error:
            yield Problem(shards.where(number, row), str(error))
            continue
        totals += Totals(samples=1, captions=len(captions))
    if totals.samples == len(index.keys) != shards.manifest.shards[number].samples:
        yield Problem(shards.manifest.shards[number].file, "holds another number of samples than the manifest says")
