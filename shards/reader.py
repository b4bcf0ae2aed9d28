"""Reads single samples by offset from memory-mapped shards."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BufferedReader
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from parsers.command import InputError
from shards import index
from shards.errors import ShardError
from shards.members import ARRAY_DTYPES, decode_masks, decode_npy, decode_record
from shards.schema import MEMBERS, Array, Caption, Manifest, Masks, Regions, Sample, key_of
from shards.storage.cache import Cache
from shards.storage.folders import Folder, LocalFolder, map_file, open_folder

MANIFEST, INDEX, VOCABULARY = "manifest.json", index.FILE, "vocab.txt"

_KEPT_SHARDS, _KEPT_INDEX_FILES = 64, 16
"""What is kept open, the last used ones: the index and the map of shards, and files of the index."""
_NUMBER = {member: number for number, member in enumerate(MEMBERS)}

T = TypeVar("T")


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
    crc32: Array
    """uint32 [samples]: checksum of the tar's bytes from the sample's first header to its last padding"""
    extents: Array
    """int64 [samples, members, 2]: offset and size of each of `shards.schema.MEMBERS`, -1 where missing"""


class ShardSet:
    """A set of shards that `pipeline.pack` or `shards.edit` wrote: a folder, or a URL that fsspec knows.

    Opening it compares the sizes of tars and the first file of the index with the manifest, so that a stale index or a
    cut tar (which a tar reader takes for a complete one) is refused before anything is read; the other files of the
    index, which only sets of more than 256 shards have, when they are first read. Shards behind a URL are copied into
    ``cache`` when they are first read; without one, `shards.storage.cache.Cache.from_environment` says where.

    Raises:
        InputError: this is no finished set of shards, or a file differs from what the manifest says.
    """

    def __init__(self, location: Path | str, cache: Cache | None = None) -> None:
        self._open(location, cache)
        for problem in self.tar_problems():
            raise InputError(problem)

    @classmethod
    def damaged(cls, location: Path | str, cache: Cache | None = None) -> ShardSet:
        """The same, though tars may be missing or cut: for tools that say what is wrong with them."""
        shards = cls.__new__(cls)
        shards._open(location, cache)
        return shards

    def _open(self, location: Path | str, cache: Cache | None) -> None:
        self.location = str(location)
        self.cache = cache
        self.folder = open_folder(location, cache)
        self.files = self.folder.sizes()
        self.manifest = load_manifest(self.folder, self.files)
        self.shard = lru_cache(_KEPT_SHARDS)(self._read_shard_index)
        self.map = lru_cache(_KEPT_SHARDS)(self._map_shard)
        self._index_files = index.files_of(self.manifest)
        self._index = lru_cache(_KEPT_INDEX_FILES)(self._open_index)
        self._sound: set[int] = set()
        for file in self._index_files:
            if file.name not in self.files:
                raise InputError(f"{self.folder.path(file.name)} is missing; {_repair(self.location)}")
        if self._index_files:
            self._index(0)

    def _open_index(self, number: int) -> pq.ParquetFile:
        """A file of the index, compared with its checksum when it is first opened."""
        file = self._index_files[number]
        path, size = self.folder.path(file.name), self.files[file.name]
        if number not in self._sound:
            with self.folder.open(file.name, file.sha256, size) as stream:
                if hashlib.file_digest(cast(BufferedReader, stream), "sha256").hexdigest() != file.sha256:
                    raise InputError(f"{path} is not the index that the manifest describes; {_repair(self.location)}")
        # Mapped, not opened: forked processes would share a file's position.
        data = memoryview(map_file(self.folder.open(file.name, file.sha256, size)))
        table = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
        if table.schema_arrow.names != index.SCHEMA.names:
            raise InputError(f"{path}: unexpected columns {table.schema_arrow.names}; {_repair(self.location)}")
        rows = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        if rows != [shard.samples for shard in self.manifest.shards[file.first : file.first + file.shards]]:
            raise InputError(f"{path}: the samples of its shards differ from the manifest's; {_repair(self.location)}")
        self._sound.add(number)
        return table

    def tar_problems(self) -> Iterator[str]:
        """The tars that are missing or have another size than the manifest says."""
        for shard in self.manifest.shards:
            tar, size = self.folder.path(shard.file), self.files.get(shard.file)
            if size is None:
                yield f"{tar} is missing; the manifest lists it"
            elif size != shard.bytes:
                yield (
                    f"{tar} has {size:,} bytes, the manifest says {shard.bytes:,}: "
                    "it was cut or changed; copy it again or pack the shards again"
                )

    def __len__(self) -> int:
        return self.manifest.totals.samples

    @cached_property
    def samples(self) -> Array:
        """int64 [shards]: samples of each shard."""
        return np.array([shard.samples for shard in self.manifest.shards], np.int64)

    @property
    def sets(self) -> list[ShardSet]:
        """The sets whose shards follow each other here: itself, and several in a `shards.joined.JoinedSet`."""
        return [self]

    @property
    def vocabulary(self) -> list[str]:
        """The word pieces; the position is the id."""
        return parse_vocabulary(self.vocabulary_bytes, f"{VOCABULARY} of {self.location}")

    @property
    def vocabulary_bytes(self) -> bytes:
        """The content of ``vocab.txt``."""
        try:
            return self.folder.read(VOCABULARY)
        except FileNotFoundError as error:
            raise InputError(f"{self.folder.path(VOCABULARY)} is missing; copy the vocabulary there") from error

    # ------------------------------------------------------------------------------------------------------ one shard

    def _read_shard_index(self, shard: int) -> ShardIndex:
        table = self.index_table(shard)
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
            crc32=table["crc32"].to_numpy(),
            extents=extents,
        )

    def index_table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of the index that belong to a shard, as `shards.index.SCHEMA` has them."""
        number = min(shard // index.SHARDS_PER_FILE, len(self._index_files) - 1)
        return self._index(number).read_row_group(shard - self._index_files[number].first, columns)

    def _map_shard(self, shard: int) -> memoryview:
        info = self.manifest.shards[shard]
        return memoryview(map_file(self.folder.open(info.file, info.sha256, info.bytes)))

    # ----------------------------------------------------------------------------------------------------- one sample

    def member(self, shard: int, row: int, member: str) -> memoryview | None:
        """The bytes of one of `shards.schema.MEMBERS`; None where the sample lacks it."""
        offset, size = self.shard(shard).extents[row, _NUMBER[member]].tolist()
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
        """The tar as messages name it."""
        return self.folder.path(self.manifest.shards[shard].file)

    def where(self, shard: int, row: int) -> str:
        """Names a sample for people: file and key."""
        return f"{self.path(shard)}, sample {self.shard(shard).keys[row]}"

    def regions(self, shard: int, row: int) -> Regions:
        """The regions of a sample; the arrays are read-only views of the file.

        Raises:
            ShardError: the bytes are no arrays of the types and shapes that index and manifest promise.
        """
        n = int(self.shard(shard).num_boxes[row])
        boxes = self._array(shard, row, "boxes.npy", (n, 4))
        features = self._array(shard, row, "features.npy", (n, self.manifest.feature_size))
        if self.shard(shard).extents[row, _NUMBER["class_ids.npy"], 0] < 0:
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
        """The word pieces of a sample and what may be masked; the arrays are read-only views of the file.

        Raises:
            ShardError: the bytes are no such arrays, or are those of another number of captions than the index says.
        """
        masks = self._decode(shard, row, "masks.npz", decode_masks)
        offsets = self.shard(shard).caption_offsets
        if len(masks.token_offsets) - 1 != offsets[row + 1] - offsets[row]:
            raise ShardError(f"{self.where(shard, row)}: masks.npz has another number of captions than the index")
        return masks

    def record(self, shard: int, row: int) -> tuple[str, int, int, tuple[Caption, ...]]:
        """(image_id, width, height, captions) of a sample.

        Raises:
            ShardError: the bytes are no such record.
        """
        return self._decode(shard, row, "json", decode_record)

    def sample(self, shard: int, row: int) -> Sample:
        """All of a sample. Raises ShardError if a part of it is damaged."""
        return Sample(*self.record(shard, row), self.regions(shard, row), self.masks(shard, row))

    def is_as_written(self, shard: int, row: int) -> bool:
        """Whether the checksum of all bytes of a sample is the one that the index has."""
        return zlib.crc32(self.stored(shard, row)) == int(self.shard(shard).crc32[row])

    # ---------------------------------------------------------------------------------------------------- all samples

    @property
    def keys(self) -> pa.ChunkedArray:
        """The keys of all samples, in stored order."""
        return pa.chunked_array(list(self.key_batches()), pa.string())

    def key_batches(self) -> Iterator[pa.Array]:
        """The same, at most a million at a time."""
        for number in range(len(self._index_files)):
            for batch in self._index(number).iter_batches(batch_size=1 << 20, columns=["key"]):
                yield batch["key"]

    def find(self, key: str) -> tuple[int, int]:
        """(shard, row) of the sample with this key or image id.

        Raises:
            InputError: there is none.
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
        """int64 [n, 2]: shard and row of the samples at these positions in stored order."""
        starts = np.cumsum(self.samples) - self.samples
        numbers = np.searchsorted(starts, positions, side="right") - 1
        return np.stack([numbers, positions - starts[numbers]], axis=1)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(shard, row) of every sample, in stored order."""
        for shard, samples in enumerate(self.samples.tolist()):
            for row in range(samples):
                yield shard, row


def _end(extents: Array) -> int:
    """Where a sample ends: its last member's end, padded to a block of the tar."""
    return -(-int(extents.sum(axis=1).max()) // 512) * 512


def _repair(location: str) -> str:
    return f"`python -m shards.inspect verify {location} --repair-index` makes it anew, or pack the shards again"


def load_manifest(folder: Folder, files: dict[str, int]) -> Manifest:
    """Reads ``manifest.json``; ``files`` is what the folder holds.

    Raises:
        InputError: it is missing, not readable as a manifest, or of another schema version.
    """
    path = folder.path(MANIFEST)
    if MANIFEST in files:
        try:
            return Manifest.from_bytes(folder.read(MANIFEST), path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from error
    where = path.removesuffix(f"/{MANIFEST}")
    if isinstance(folder, LocalFolder):
        if not folder.folder.is_dir():
            raise InputError(f"{where}: there is no such folder")
        splits = sorted(child.parent.name for child in folder.folder.glob(f"*/{MANIFEST}"))
        if splits:
            raise InputError(
                f"{where}: holds the shard sets {', '.join(splits)}; name one of them, e.g. {folder.folder / splits[0]}"
            )
    raise InputError(
        f"{where}: has no manifest.json, which is written last: either this is no folder of shards, or the command "
        "that writes them did not finish (run it again)"
    )


def read_vocabulary(path: Path) -> list[str]:
    """A BERT vocabulary: one word piece a line, the line number from 0 is its id.

    Raises:
        InputError: it cannot be read or lacks a special token.
    """
    try:
        return parse_vocabulary(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a vocabulary: {error}") from error


def parse_vocabulary(data: bytes, path: str) -> list[str]:
    """The same from the content of the file; ``path`` is what messages call it."""
    try:
        # Not splitlines(): U+2028 and its like are no line ends here.
        pieces = data.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a vocabulary: {error}") from error
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in pieces]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; a BERT vocabulary has one word piece a line")
    return pieces
