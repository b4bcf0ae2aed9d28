"""What training asks of shards, whether they are one set or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shards.manifest import Classes, DetectorInfo, TokenizerInfo, Totals
from shards.schema import Array, Masks, NegativeMasks, Record, Regions


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The rows of the index that belong to one shard."""

    keys: list[str]
    sizes: Array
    """int32 [samples, 2]: width and height of the image in pixels"""
    num_boxes: Array
    """int32 [samples]"""
    tokens: Array
    """int32 [captions]: how many word pieces each caption of the shard has"""
    caption_offsets: Array
    """int32 [samples + 1]: sample i has the captions ``caption_offsets[i]:caption_offsets[i + 1]``"""
    crc32: Array
    """uint32 [samples]: checksum of the tar's bytes from the sample's first header to its last padding"""
    negative_tokens: Array
    """int32 [negatives]: how many word pieces each false caption of the shard has"""
    negative_kinds: Array
    """uint8 [negatives]: positions in `shards.schema.NEGATIVE_KINDS`"""
    negative_offsets: Array
    """int32 [samples + 1]: sample i has the false captions ``negative_offsets[i]:negative_offsets[i + 1]``"""
    extents: Array
    """int64 [samples, members, 2]: offset and size of each of `shards.schema.MEMBERS` in the tar, -1 where missing"""


class SampleReader(Protocol):
    """The samples of a set of shards (`shards.reader.ShardSet`), or of several as one (`shards.joined.JoinedSet`).

    A sample is named by the number of its shard and its row there.
    """

    @property
    def location(self) -> str:
        """The folder or URL, for messages."""
        ...

    @property
    def sets(self) -> Sequence[SampleReader]:
        """The sets whose shards follow each other here; a single set has only itself."""
        ...

    @property
    def checksum(self) -> str:
        """A SHA-256 in hexadecimal that identifies the data.

        It is that of the manifest, or the one of the checksums of several sets that are read as one.
        """
        ...

    @property
    def totals(self) -> Totals:
        """How much all shards hold."""
        ...

    @property
    def tokenizer(self) -> TokenizerInfo:
        """The vocabulary that the captions were tokenized with."""
        ...

    @property
    def feature_size(self) -> int:
        """How many numbers describe a region."""
        ...

    @property
    def detector(self) -> DetectorInfo | None:
        """The detector that found the regions; None if nobody knows, or if there were several."""
        ...

    @property
    def classes(self) -> Classes:
        """The classes of the detector."""
        ...

    @property
    def vocabulary(self) -> list[str]:
        """The word pieces; the position of a piece is its id."""
        ...

    @property
    def vocabulary_bytes(self) -> bytes:
        """The content of ``vocab.txt``."""
        ...

    @property
    def samples(self) -> Array:
        """The number of samples in each shard, int64 [shards], in the order of the shards' numbers."""
        ...

    def __len__(self) -> int:
        """The number of all samples."""
        ...

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(shard, row) of every sample, in stored order."""
        ...

    def shard(self, shard: int) -> ShardIndex:
        """The rows of the index that belong to a shard."""
        ...

    def record(self, shard: int, row: int) -> Record:
        """The image id, the size of the image and the captions of a sample."""
        ...

    def regions(self, shard: int, row: int) -> Regions:
        """The regions of a sample; the arrays are read-only views of the file."""
        ...

    def masks(self, shard: int, row: int) -> Masks:
        """The word pieces of a sample and the nodes that cover them; the arrays are read-only views of the file."""
        ...

    def negative_masks(self, shard: int, row: int) -> NegativeMasks:
        """The word pieces of the false captions of a sample, which must have some; the arrays are read-only views."""
        ...


def each_place(samples: Array) -> Iterator[tuple[int, int]]:
    """(shard, row) of every sample, in stored order; ``samples`` is the number of samples in each shard."""
    for shard, count in enumerate(samples.tolist()):
        for row in range(count):
            yield shard, row
