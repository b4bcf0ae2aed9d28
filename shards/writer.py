"""Writes samples into a tar, byte for byte the same whenever the samples are the same."""

from __future__ import annotations

import hashlib
import io
import tarfile
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from shards.schema import ATTRIBUTE, OBJECT, RELATION, Sample, ShardInfo, Totals, encode_sample, key_of


class ShardWriter:
    """Writes one shard to an open binary file.

    After it is closed, ``info`` names the shard for the manifest, ``rows`` are its rows of the index and ``totals``
    its counts. Times, owners and modes are fixed; long names are stored as GNU tar stores them.
    """

    def __init__(self, stream: BinaryIO, file: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self.totals = Totals()
        self._file = file
        self._hashing = _HashingStream(stream)
        self._tar = tarfile.open(fileobj=self._hashing, mode="w|", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self._keys: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._tar.close()

    def write(self, sample: Sample) -> None:
        """Adds a sample.

        Raises:
            ValueError: its image id is already in this shard, or its regions or masks are not valid.
        """
        key = key_of(sample.image_id)
        if key in self._keys:
            raise ValueError(f"image {sample.image_id!r} is in the shard already")
        sample.regions.check(sample.width, sample.height)
        sample.masks.check()
        self._keys.add(key)
        masks = sample.masks
        row: dict[str, Any] = {
            "key": key,
            "width": sample.width,
            "height": sample.height,
            "num_boxes": len(sample.regions.boxes),
            "tokens": np.diff(masks.token_offsets).tolist(),
        }
        for extension, data in encode_sample(sample):
            entry = tarfile.TarInfo(f"{key}.{extension}")
            entry.size = len(data)
            self._tar.addfile(entry, io.BytesIO(data))
            padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            row[f"{extension}_offset"] = self._tar.offset - padded
            row[f"{extension}_size"] = len(data)
        self.rows.append(row)
        kinds = np.bincount(masks.node_kind, minlength=3)
        self.totals += Totals(
            samples=1,
            captions=len(sample.captions),
            boxes=len(sample.regions.boxes),
            tokens=len(masks.token_ids),
            objects=int(kinds[OBJECT]),
            attributes=int(kinds[ATTRIBUTE]),
            relations=int(kinds[RELATION]),
        )

    @property
    def info(self) -> ShardInfo:
        """Name, size and checksum of the tar, once it is closed."""
        return ShardInfo(
            file=self._file,
            samples=len(self.rows),
            bytes=self._hashing.size,
            sha256=self._hashing.digest.hexdigest(),
        )


class _HashingStream(io.RawIOBase):
    """Passes bytes on and takes their checksum on the way."""

    def __init__(self, stream: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        self._stream.write(data)
        return len(data)
