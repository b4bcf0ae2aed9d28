"""Reads single samples by offset from memory-mapped shards."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from shards import index
from shards.errors import InputError
from shards.members import decode_masks, decode_npy, decode_record
from shards.schema import MEMBERS, Array, Caption, Manifest, Masks, Regions, key_of

MANIFEST, INDEX, VOCABULARY = "manifest.json", "index.parquet", "vocab.txt"

_CACHED_SHARDS = 64


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The rows of the index that belong to one shard."""

    keys: list[str]
    sizes: Array
    """int32 [samples, 2]: width and height of the image in pixels"""
    num_boxes: Array
    """int32 [samples]"""
    tokens: Array
    """int32: word pieces of every caption of the shard"""
    caption_offsets: Array
    """int32 [samples + 1]: sample i has the captions ``caption_offsets[i]:caption_offsets[i + 1]``"""
    extents: Array
    """int64 [samples, members, 2]: offset and size of each of `shards.schema.MEMBERS`, -1 where missing"""


class ShardSet:
    """A folder of shards that `pipeline.pack` wrote.

    Opening it compares index and tars with the manifest, so that a stale index or a cut tar (which a tar reader takes
    for a complete one) is refused before anything is read.

    Raises:
        InputError: the folder is no finished set of shards, or a file differs from what the manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest.load(folder)
        self._check_files()
        self.shard = lru_cache(_CACHED_SHARDS)(self._read_shard_index)
        self._map = lru_cache(_CACHED_SHARDS)(self._map_shard)

    def _check_files(self) -> None:
        path = self.folder / INDEX
        if not path.is_file():
            raise InputError(f"{path} is missing; pack the shards again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.manifest.index_sha256:
            raise InputError(f"{path} is not the index that the manifest describes; pack the shards again")
        self._index = pq.ParquetFile(path)
        rows = [self._index.metadata.row_group(i).num_rows for i in range(self._index.num_row_groups)]
        if rows != [shard.samples for shard in self.manifest.shards]:
            raise InputError(f"{path}: the samples of its shards differ from the manifest's; pack the shards again")
        for shard in self.manifest.shards:
            tar = self.folder / shard.file
            if not tar.is_file():
                raise InputError(f"{tar} is missing; the manifest lists it")
            if tar.stat().st_size != shard.bytes:
                raise InputError(
                    f"{tar} has {tar.stat().st_size:,} bytes, the manifest says {shard.bytes:,}: "
                    "it was cut or changed; copy it again or pack the shards again"
                )

    def __len__(self) -> int:
        return self.manifest.totals.samples

    @property
    def vocabulary(self) -> list[str]:
        """The word pieces; the position is the id."""
        return read_vocabulary(self.folder / VOCABULARY)

    def _read_shard_index(self, shard: int) -> ShardIndex:
        table = self._index.read_row_group(shard)
        if table.schema.names != index.SCHEMA.names:
            raise InputError(f"{self.folder / INDEX}: unexpected columns {table.schema.names}")
        tokens = table["tokens"].combine_chunks()
        extents = np.stack(
            [
                np.stack([table[f"{m}_{what}"].fill_null(-1).to_numpy() for what in ("offset", "size")], axis=-1)
                for m in MEMBERS
            ],
            axis=1,
        )
        return ShardIndex(
            keys=table["key"].to_pylist(),
            sizes=np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1),
            num_boxes=table["num_boxes"].to_numpy(),
            tokens=tokens.values.to_numpy(),
            caption_offsets=tokens.offsets.to_numpy(),
            extents=extents,
        )

    def _map_shard(self, shard: int) -> memoryview:
        with (self.folder / self.manifest.shards[shard].file).open("rb") as stream:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))

    def _member(self, shard: int, row: int, member: str) -> memoryview | None:
        offset, size = self.shard(shard).extents[row, MEMBERS.index(member)]
        return None if offset < 0 else self._map(shard)[offset : offset + size]

    def _required(self, shard: int, row: int, member: str) -> memoryview:
        data = self._member(shard, row, member)
        if data is None:
            raise InputError(f"{self.where(shard, row)} has no member {member}")
        return data

    def where(self, shard: int, row: int) -> str:
        """Names a sample for people: file and key."""
        return f"{self.folder / self.manifest.shards[shard].file}, sample {self.shard(shard).keys[row]}"

    def regions(self, shard: int, row: int) -> Regions:
        """The regions of a sample; the arrays are read-only views of the file."""
        ids, probabilities = (self._member(shard, row, f"class_{what}.npy") for what in ("ids", "probs"))
        return Regions(
            boxes=decode_npy(self._required(shard, row, "boxes.npy")),
            features=decode_npy(self._required(shard, row, "features.npy")),
            class_ids=None if ids is None else decode_npy(ids),
            class_probs=None if probabilities is None else decode_npy(probabilities),
        )

    def masks(self, shard: int, row: int) -> Masks:
        """The word pieces of a sample and what may be masked; the arrays are read-only views of the file."""
        return decode_masks(self._required(shard, row, "masks.npz"))

    def record(self, shard: int, row: int) -> tuple[str, int, int, tuple[Caption, ...]]:
        """(image_id, width, height, captions) of a sample."""
        return decode_record(self._required(shard, row, "json"))

    def find(self, key: str) -> tuple[int, int]:
        """(shard, row) of the sample with this key or image id.

        Raises:
            InputError: there is none.
        """
        for shard in range(len(self.manifest.shards)):
            keys = self.shard(shard).keys
            for wanted in (key, key_of(key)):
                if wanted in keys:
                    return shard, keys.index(wanted)
        raise InputError(f"{self.folder}: no sample {key!r}; `python -m shards.inspect head {self.folder}` lists some")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(shard, row) of every sample, in stored order."""
        for shard, info in enumerate(self.manifest.shards):
            for row in range(info.samples):
                yield shard, row


def read_vocabulary(path: Path) -> list[str]:
    """A BERT vocabulary: one word piece a line, the line number from 0 is its id.

    Raises:
        InputError: it cannot be read or lacks a special token.
    """
    try:
        # Not splitlines(): U+2028 and its like are no line ends here.
        pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a vocabulary: {error}") from error
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in pieces]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; a BERT vocabulary has one word piece a line")
    return pieces
