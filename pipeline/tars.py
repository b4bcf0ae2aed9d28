"""Samples of WebDataset tars, one after the other; what is not asked for is skipped, not read."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from shards.storage.files import AnyPath


@dataclass(frozen=True, slots=True)
class TarSample:
    """The members of a sample: what is called KEY.EXTENSION."""

    key: str
    """with its folder"""
    contents: dict[str, bytes] = field(default_factory=dict)
    """by extension, of those that were asked for"""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(offset, size) in the tar by extension, of all"""

    @property
    def position(self) -> str:
        """As rejects name it."""
        return f"sample {self.key}"


@dataclass(frozen=True, slots=True)
class Damage:
    """The tar cannot be read on."""

    position: str
    reason: str


def read_samples(path: AnyPath, wanted: Collection[str]) -> Iterator[TarSample | Damage]:
    """The samples of a tar, with the contents of the extensions in ``wanted``; a cut-off tar ends with `Damage`."""
    sample = TarSample("")
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for entry in tar:
                if not entry.isfile():
                    continue
                folder, name = posixpath.split(entry.name)
                stem, _, extension = name.partition(".")
                if (key := posixpath.join(folder, stem)) != sample.key:
                    if sample.key:
                        yield sample
                    sample = TarSample(key)
                sample.places[extension] = entry.offset_data, entry.size
                if extension in wanted and (content := tar.extractfile(entry)) is not None:
                    sample.contents[extension] = content.read()
            if sample.key:
                yield sample
            stream.seek(-min(2 * tarfile.BLOCKSIZE, stream.seek(0, io.SEEK_END)), io.SEEK_END)
            if any(stream.read()):
                yield Damage(f"after {sample.position}", "the tar has no end: it is cut off, samples may be missing")
    except (tarfile.TarError, EOFError) as error:
        yield Damage(f"after {sample.position}", f"the tar is damaged or cut off ({error}): samples may be missing")
