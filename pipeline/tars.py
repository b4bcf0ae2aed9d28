"""Reads the samples of WebDataset tars one after the other. Members that nobody asks for are skipped."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from parsers.command import InputError
from pipeline.files import check_regular
from shards.storage.files import AnyPath
from shards.storage.tars import walk_tar

MAX_CONTENT = 1 << 24
"""the largest text of a sample that is read, in bytes"""


@dataclass(frozen=True, slots=True)
class TarSample:
    """A sample: the members of a tar that are called KEY.EXTENSION."""

    key: str
    """the part of the name before the first dot, with its folder"""
    contents: dict[str, bytes] = field(default_factory=dict)
    """the bytes of the members that were asked for, by extension"""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """where each member lies in the tar (offset and size in bytes), by extension"""
    faults: list[str] = field(default_factory=list)
    """what is wrong with its members"""

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
class TarDamage:
    """A sample, or all that follows in the tar, cannot be read."""

    position: str
    reason: str


def read_samples(path: AnyPath, wanted: Collection[str]) -> Iterator[TarSample | TarDamage]:
    """Yields the samples of a tar, with the contents of the members whose extension is in ``wanted``.

    A tar that is cut off or damaged ends with `Damage`. All keys are held in memory.

    Raises:
        InputError: the file cannot be read, or the members of a sample do not lie side by side.
    """
    seen: set[str] = set()
    try:
        check_regular(path)
        with path.open("rb") as stream:
            for sample in _split(stream, wanted):
                if isinstance(sample, TarSample):
                    if sample.key in seen:
                        raise InputError(
                            f"{path}: the members of sample {sample.key} do not lie side by side; pack the tar again "
                            "in the order of names (tar --sort=name)"
                        )
                    seen.add(sample.key)
                    yield TarDamage(sample.position, sample.faults[0]) if sample.faults else sample
                else:
                    yield sample
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _split(stream: BinaryIO, wanted: Collection[str]) -> Iterator[TarSample | TarDamage]:
    """Yields runs of members that have one key."""
    sample = TarSample("")
    try:
        for entry in walk_tar(stream):
            folder, name = posixpath.split(entry.name)
            stem, _, extension = name.partition(".")
            if entry.isdir() or not stem:  # macOS puts a file ._NAME before each file
                continue
            if (key := posixpath.join(folder, stem)) != sample.key:
                if sample.key:
                    yield sample
                sample = TarSample(key)
            if fault := _find_fault(entry, sample, extension, extension in wanted):
                sample.faults.append(fault)
                continue
            sample.places[extension] = entry.offset_data, entry.size
            if extension in wanted:
                stream.seek(entry.offset_data)
                sample.contents[extension] = stream.read(entry.size)
        if sample.key:
            yield sample
        size = stream.seek(0, io.SEEK_END)
        stream.seek(-min(2 * tarfile.BLOCKSIZE, size), io.SEEK_END)
        if any(stream.read()):
            yield TarDamage(f"after {sample.position}", "the tar has no end: it is cut off, samples may be missing")
    except tarfile.TarError as error:
        yield TarDamage(f"after {sample.position}", f"the tar is damaged or cut off ({error}): samples may be missing")


def _find_fault(entry: tarfile.TarInfo, sample: TarSample, extension: str, wanted: bool) -> str | None:
    """Returns why a member cannot be used."""
    if not entry.isreg():
        return f"its .{extension} is a link or a device"
    if entry.issparse():
        return f"its .{extension} is a sparse file"
    if extension in sample.places:
        return f"it has more than one .{extension}"
    if wanted and entry.size > MAX_CONTENT:
        return f"its .{extension} has more than {MAX_CONTENT:,} bytes"
    return None
