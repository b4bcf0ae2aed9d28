"""Reads single samples by offset from memory-mapped shards."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from parsers.checksums import sha256_of_stream
from parsers.command import InputError
from shards import index
from shards.manifest import Classes, DetectorInfo, TokenizerInfo, Totals, read_manifest
from shards.members import (
    ARRAY_DTYPES,
    decode_masks,
    decode_negative_masks,
    decode_negatives,
    decode_npy,
    decode_record,
)
from shards.sample_reader import ShardIndex, each_place
from shards.schema import MEMBERS, Array, Masks, Negative, NegativeMasks, Record, Regions, Sample, key_of
from shards.storage.cache import Cache
from shards.storage.errors import ShardError
from shards.storage.folders import map_file, open_folder
from shards.storage.parquet import ParquetFile, parquet_in_memory
from shards.vocabulary import VOCABULARY, parse_vocabulary

_KEPT_SHARDS, _KEPT_INDEX_FILES = 64, 16
"""how many shards (rows of the index, maps of tars) and files of the index stay open; the last used ones do"""
_COLUMN = {member: number for number, member in enumerate(MEMBERS)}

T = TypeVar("T")


class ShardSet:
    """A set of shards that `pipeline.pack` or `shards.edit` wrote: a folder, or a URL that fsspec knows.

    Opening a set compares the sizes of its tars with the manifest, because a tar reader takes a cut tar for a complete
    one. It also compares the first file of the index with its checksum in the manifest. Sets of more than 256 shards
    have further files of the index, each of which is compared when it is first read.

    Shards behind a URL are copied into ``cache`` when they are first read. Without a cache,
    `shards.storage.cache.Cache.from_environment` makes one.

    Args:
        location: the folder or the URL.
        cache: where copies of remote files go.
        check_tars: refuse a set with missing or cut tars. Tools that report what is wrong with a set turn this off.

    Raises:
        InputError: this is no finished set of shards, or a file differs from what the manifest says.
    """

    def __init__(self, location: Path | str, cache: Cache | None = None, *, check_tars: bool = True) -> None:
        self.location = str(location)
        self.cache = cache
        self.folder = open_folder(location, cache)
        self.files = self.folder.sizes()
        self.manifest = read_manifest(self.folder, self.files)
        self._shard_index = lru_cache(_KEPT_SHARDS)(self._read_shard_index)
        self._mapped_tar = lru_cache(_KEPT_SHARDS)(self._map_tar)
        self._index_files = index.files_of(self.manifest)
        self._index = lru_cache(_KEPT_INDEX_FILES)(self._open_index)
        self._verified_index_files: set[int] = set()
        for file in self._index_files:
            if file.name not in self.files:
                raise InputError(f"{self.folder.path(file.name)} is missing; {_repair_hint(self.location)}")
        if self._index_files:
            self._index(0)
        if check_tars:
            for problem in self.tar_problems():
                raise InputError(problem)

    def _open_index(self, number: int) -> ParquetFile:
        """A file of the index. It is compared with its checksum when it is first opened."""
        file = self._index_files[number]
        path, size = self.folder.path(file.name), self.files[file.name]
        if number not in self._verified_index_files:
            with self.folder.open(file.name, file.sha256, size) as stream:
                if sha256_of_stream(stream) != file.sha256:
                    raise InputError(
                        f"{path} is not the index that the manifest describes; {_repair_hint(self.location)}"
                    )
        # The file is mapped, because forked processes would share the position of an open one.
        table = parquet_in_memory(path, memoryview(map_file(self.folder.open(file.name, file.sha256, size))))
        if not table.schema_arrow.equals(index.schema_of(self.manifest)):
            columns = ", ".join(f"{field.name}: {field.type}" for field in table.schema_arrow)
            raise InputError(f"{path}: unexpected columns {columns}; {_repair_hint(self.location)}")
        rows = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        if rows != [shard.samples for shard in self.manifest.shards[file.first : file.first + file.shards]]:
            raise InputError(
                f"{path}: the samples of its shards differ from the manifest's; {_repair_hint(self.location)}"
            )
        self._verified_index_files.add(number)
        return table

    def tar_problems(self) -> Iterator[str]:
        """A sentence for each tar that is missing or has another size than the manifest says."""
        for shard in self.manifest.shards:
            tar, size = self.folder.path(shard.file), self.files.get(shard.file)
            if size is None:
                yield f"{tar} is missing; the manifest lists it"
            elif size != shard.bytes:
                yield (
                    f"{tar} has {size:,} bytes, the manifest says {shard.bytes:,}: "
                    "it was cut or changed; copy it again or pack the shards again"
                )

    def check_vocabulary(self) -> None:
        """Checks that ``vocab.txt`` is the vocabulary that the captions were tokenized with.

        Raises:
            InputError: it is missing or another one, or the manifest says another number of word pieces.
        """
        pieces, size = len(self.vocabulary), self.tokenizer.size
        if pieces != size:
            raise InputError(f"{self.folder.path(VOCABULARY)} has {pieces:,} word pieces, the manifest says {size:,}")

    # ------------------------------------------------------------------------------------------------------- the set

    @property
    def sets(self) -> list[ShardSet]:
        """See `shards.sample_reader.SampleReader`."""
        return [self]

    @property
    def checksum(self) -> str:
        """See `shards.sample_reader.SampleReader`."""
        return self.manifest.checksum

    @property
    def totals(self) -> Totals:
        """See `shards.sample_reader.SampleReader`."""
        return self.manifest.totals

    @property
    def tokenizer(self) -> TokenizerInfo:
        """See `shards.sample_reader.SampleReader`."""
        return self.manifest.tokenizer

    @property
    def feature_size(self) -> int:
        """See `shards.sample_reader.SampleReader`."""
        return self.manifest.feature_size

    @property
    def detector(self) -> DetectorInfo | None:
        """See `SampleReader`."""
        return self.manifest.detector

    @property
    def classes(self) -> Classes:
        """See `shards.sample_reader.SampleReader`."""
        return self.manifest.classes

    @property
    def vocabulary(self) -> list[str]:
        """See `shards.sample_reader.SampleReader`."""
        return parse_vocabulary(self.vocabulary_bytes, self.folder.path(VOCABULARY))

    @property
    def vocabulary_bytes(self) -> bytes:
        """See `shards.sample_reader.SampleReader`."""
        path = self.folder.path(VOCABULARY)
        try:
            data = self.folder.read(VOCABULARY)
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; copy the vocabulary there") from error
        if hashlib.sha256(data).hexdigest() != self.tokenizer.sha256:
            raise InputError(f"{path} is not the vocabulary that the manifest names; copy that one there")
        return data

    def __len__(self) -> int:
        return self.totals.samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return each_place(self.samples)

    @cached_property
    def samples(self) -> Array:
        """See `shards.sample_reader.SampleReader`."""
        return np.array([shard.samples for shard in self.manifest.shards], np.int64)

    # ------------------------------------------------------------------------------------------------------ one shard

    def shard(self, shard: int) -> ShardIndex:
        """See `shards.sample_reader.SampleReader`."""
        return self._shard_index(shard)

    def _read_shard_index(self, shard: int) -> ShardIndex:
        return index.read_rows(self.index_table(shard))

    def index_table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of the index that belong to a shard, with some or all columns of `shards.index.SCHEMA`."""
        number = min(shard // index.SHARDS_PER_FILE, len(self._index_files) - 1)
        file = self._index_files[number]
        return self._index(number).read_row_group(shard - file.first, columns)

    def map(self, shard: int) -> memoryview:
        """The bytes of a shard's tar, mapped into memory."""
        return self._mapped_tar(shard)

    def _map_tar(self, shard: int) -> memoryview:
        info = self.manifest.shards[shard]
        return memoryview(map_file(self.folder.open(info.file, info.sha256, info.bytes)))

    # ----------------------------------------------------------------------------------------------------- one sample

    def member(self, shard: int, row: int, member: str) -> memoryview | None:
        """The bytes of one of `shards.schema.MEMBERS`; None where the sample lacks it."""
        offset, size = self.shard(shard).extents[row, _COLUMN[member]].tolist()
        return None if offset < 0 else self.map(shard)[offset : offset + size]

    def stored(self, shard: int, row: int) -> memoryview:
        """All bytes of a sample in its tar: headers, members and padding."""
        extents = self.shard(shard).extents
        start = _end(extents[row - 1]) if row else 0
        return self.map(shard)[start : _end(extents[row])]

    def _decode(self, shard: int, row: int, member: str, decode: Callable[[memoryview], T]) -> T:
        data = self.member(shard, row, member)
        if data is None:
            raise ShardError(f"{self.where(shard, row)} has no member {member}")
        try:
            return decode(data)
        except ValueError as error:
            raise ShardError(f"{self.where(shard, row)}, member {member}: {error}") from error

    def path(self, shard: int) -> str:
        """The file or URL of a shard's tar."""
        return self.folder.path(self.manifest.shards[shard].file)

    def where(self, shard: int, row: int) -> str:
        """The file and key of a sample, for messages."""
        return f"{self.path(shard)}, sample {self.shard(shard).keys[row]}"

    def regions(self, shard: int, row: int) -> Regions:
        """See `shards.sample_reader.SampleReader`.

        Raises:
            ShardError: the bytes are no arrays of the types and shapes that the index and the manifest promise.
        """
        n = int(self.shard(shard).num_boxes[row])
        boxes = self._array(shard, row, "boxes.npy", (n, 4))
        features = self._array(shard, row, "features.npy", (n, self.manifest.feature_size))
        if self.shard(shard).extents[row, _COLUMN["class_ids.npy"], 0] < 0:
            return Regions(boxes, features, None, None)
        ids = self._array(shard, row, "class_ids.npy", (n, None))
        return Regions(boxes, features, ids, self._array(shard, row, "class_probs.npy", (n, ids.shape[1])))

    def _array(self, shard: int, row: int, member: str, shape: tuple[int, int | None]) -> Array:
        array = self._decode(shard, row, member, decode_npy)
        rows, columns = shape
        if array.dtype != ARRAY_DTYPES[member] or array.ndim != 2 or array.shape != (rows, columns or array.shape[1]):
            raise ShardError(
                f"{self.where(shard, row)}, member {member}: {array.dtype} {list(array.shape)}, "
                f"expected {ARRAY_DTYPES[member]} [{rows}, {columns or 'k'}]"
            )
        return array

    def masks(self, shard: int, row: int) -> Masks:
        """See `shards.sample_reader.SampleReader`.

        Raises:
            ShardError: the bytes are no such arrays, or they belong to another number of captions than the index says.
        """
        masks = self._decode(shard, row, "masks.npz", decode_masks)
        offsets = self.shard(shard).caption_offsets
        if len(masks.token_offsets) - 1 != offsets[row + 1] - offsets[row]:
            raise ShardError(f"{self.where(shard, row)}: masks.npz has another number of captions than the index")
        return masks

    def negative_masks(self, shard: int, row: int) -> NegativeMasks:
        """See `shards.sample_reader.SampleReader`.

        Raises:
            ShardError: there are none, or the bytes are no such arrays.
        """
        return self._decode(shard, row, "negatives.npz", decode_negative_masks)

    def negatives(self, shard: int, row: int) -> tuple[Negative, ...]:
        """The false captions of a sample.

        Raises:
            ShardError: the bytes are no such captions.
        """
        if self.member(shard, row, "negatives.json") is None:
            return ()
        return self._decode(shard, row, "negatives.json", decode_negatives)

    def record(self, shard: int, row: int) -> Record:
        """See `shards.sample_reader.SampleReader`.

        Raises:
            ShardError: the bytes are no such record.
        """
        return self._decode(shard, row, "json", decode_record)

    def sample(self, shard: int, row: int) -> Sample:
        """The whole sample.

        Raises:
            ShardError: a part of it is damaged.
        """
        negatives = self.negatives(shard, row)
        return Sample(
            *self.record(shard, row),
            self.regions(shard, row),
            self.masks(shard, row),
            negatives,
            self.negative_masks(shard, row) if negatives else None,
        )

    def is_as_written(self, shard: int, row: int) -> bool:
        """Whether all bytes of a sample have the checksum that the index names."""
        return zlib.crc32(self.stored(shard, row)) == int(self.shard(shard).crc32[row])

    # ---------------------------------------------------------------------------------------------------- all samples

    @property
    def keys(self) -> pa.ChunkedArray:
        """The keys of all samples, in stored order."""
        return pa.chunked_array(list(self.key_batches()), pa.string())

    def key_batches(self) -> Iterator[pa.Array]:
        """The keys of all samples, in stored order, at most a million at a time."""
        for number in range(len(self._index_files)):
            for batch in self._index(number).iter_batches(batch_size=1 << 20, columns=["key"]):
                yield batch["key"]

    def find(self, key: str) -> tuple[int, int]:
        """(shard, row) of the sample with this key or image id.

        Raises:
            InputError: no sample has it.
        """
        for shard in range(len(self.manifest.shards)):
            keys = self.index_table(shard, ["key"])["key"]
            for wanted in (key, key_of(key)):
                row = keys.index(wanted).as_py()
                if row >= 0:
                    return shard, row
        raise InputError(
            f"{self.location}: no sample {key!r}; `python -m shards.inspect head {self.location}` lists some"
        )

    def places(self, positions: Array) -> Array:
        """The shard and row of samples that are given by their position in stored order.

        In a set whose shards have 3, 2 and 4 samples, the positions 0, 2, 3 and 8 are the places (0, 0), (0, 2),
        (1, 0) and (2, 3).

        Args:
            positions: int64 [n].

        Returns:
            int64 [n, 2].
        """
        starts = np.cumsum(self.samples) - self.samples
        numbers = np.searchsorted(starts, positions, side="right") - 1
        return np.stack([numbers, positions - starts[numbers]], axis=1)


def _end(extents: Array) -> int:
    """The offset where a sample ends: the end of its last member, rounded up to a block of the tar.

    A last member of 130 bytes that starts at 1,024 ends at 1,154, so the sample ends at 1,536.
    """
    return -(-int(extents.sum(axis=1).max()) // 512) * 512


def _repair_hint(location: str) -> str:
    return f"`python -m shards.inspect verify {location} --repair-index` makes it anew, or pack the shards again"
