"""Reads the samples of WebDataset tars one after the other. Members that nobody asks for are skipped."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from shards.storage.files import AnyPath


@dataclass(frozen=True, slots=True)
class TarSample:
    """A sample: the members of a tar that are called KEY.EXTENSION."""

    key: str
    """the part of the name before the first dot, with its folder"""
    contents: dict[str, bytes] = field(default_factory=dict)
    """the bytes of the members that were asked for, by extension"""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """where each member lies in the tar (offset and size in bytes), by extension"""

    @property
    def position(self) -> str:
        """What rejects call the sample."""
        return f"sample {self.key}"

    def read_json(self) -> dict[str, object]:
        """Returns the object in the member ``json``; it is empty if there is no such member.

        Raises:
            ValueError: the member is not a JSON object.
        """
        try:
            value = json.loads(self.contents.get("json", b"{}"))
        except UnicodeDecodeError:
            raise ValueError("invalid UTF-8") from None
        except (ValueError, RecursionError):
            raise ValueError("its .json is not JSON") from None
        if not isinstance(value, dict):
            raise ValueError("its .json is not a JSON object")
        return value


@dataclass(frozen=True, slots=True)
class Damage:
    """The tar cannot be read any further."""

    position: str
    reason: str


def read_samples(path: AnyPath, wanted: Collection[str]) -> Iterator[TarSample | Damage]:
    """Yields the samples of a tar, with the contents of the members whose extension is in ``wanted``.

    A tar that is cut off or damaged ends with `Damage`.
    """
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
