"""The inputs and outputs of the stages: whatever fsspec reaches (``data/x``, ``s3://…``, ``gs://…``, ``hf://…``)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from upath import UPath

from parsers.command import InputError
from shards.storage.files import AnyPath

_GLOB = frozenset("*?[")


def location(text: str | Path) -> UPath:
    """Returns the path that a user named.

    Raises:
        InputError: no installed package can reach it.
    """
    try:
        path = UPath(text)
        # A cached listing would hide what other processes write.
        return path if is_local(path) else UPath(text, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(f"{text}: cannot be reached: {error}") from error


def expand(sources: Iterable[str | Path]) -> list[UPath]:
    """Returns the paths that users named. A pattern (``s3://bucket/*.tar``) becomes what it matches, sorted.

    Raises:
        InputError: a pattern matches nothing, or a file is missing or cannot be read.
    """
    paths = []
    for source in sources:
        path = location(source)
        if _exists(path):
            if is_local(path) and not path.is_dir():
                check_regular(path)
            paths.append(path)
        elif _GLOB & set(str(source)):
            found = sorted(path.fs.glob(path.path))
            if not found:
                raise InputError(f"{source}: matches no file")
            prefix = "" if is_local(path) else f"{path.protocol}://"
            paths += [location(prefix + match) for match in found]
        else:
            raise InputError(f"{source}: there is no such file or folder{_propose(path)}")
    return paths


def _propose(path: UPath) -> str:
    """Returns which file or folder of nearly this name there is, as the end of a message."""
    if not is_local(path) or not path.parent.is_dir():
        return ""
    similar = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f"; did you mean {path.with_name(similar[0])}?" if similar else ""


def _exists(path: UPath) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be reached: {error}") from error


def check_regular(path: AnyPath) -> None:
    """Checks that a path on a disk is a file, because reading a pipe or a device may wait or go on for ever.

    Raises:
        InputError: it is something else.
        OSError: there is no such path.
    """
    if isinstance(path, Path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a folder, not a file; name the files in it, for example {path}/*.json")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: is a pipe, a socket or a device, not a file; copy its content into a file")


def is_local(path: AnyPath) -> bool:
    """Returns whether the path is on a disk of this machine."""
    return isinstance(path, Path)


def is_inside(path: AnyPath, folder: AnyPath) -> bool:
    """Returns whether the path is the folder or lies somewhere below it."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.resolve().is_relative_to(folder.resolve())
    return f"{path}/".startswith(f"{folder}/")


def fingerprint(path: AnyPath) -> dict[str, object]:
    """Returns what names an input and changes when it is written again.

    A file has its path, its size and its modification time; on a store, the store's own description of the object
    (checksum or time) stands for the time. A folder has its path and a checksum over the same of all files in it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        where = str(path.resolve() if isinstance(path, Path) else path)
        if path.is_dir():
            return {"path": where, "files": _checksum_of_folder(path)}
        size = path.stat().st_size
        if isinstance(path, Path):
            return {"path": where, "bytes": size, "modified_ns": path.stat().st_mtime_ns}
        return {"path": where, "bytes": size, "version": path.fs.ukey(path.path)}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _checksum_of_folder(folder: AnyPath) -> str:
    digest = hashlib.sha256()
    for file in list_folder(folder):
        digest.update(f"{file.name}\0{file.size}\0{file.version}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file somewhere below a folder."""

    name: str
    """the path below the folder, with slashes"""
    size: int
    """in bytes"""
    version: str
    """this changes when the file is written again"""

    @property
    def extension(self) -> str:
        """The extension in lower case, with the dot."""
        return PurePosixPath(self.name).suffix.lower()


def list_folder(folder: AnyPath) -> list[FolderFile]:
    """Lists all files below a folder by name, except those whose name, or folder's name, begins with a dot.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = list(_walk_disk(folder) if isinstance(folder, Path) else _walk_store(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from error
    shown = (file for file in found if not any(part.startswith(".") for part in PurePosixPath(file.name).parts))
    return sorted(shown, key=lambda file: file.name)


def _walk_disk(folder: Path) -> Iterator[FolderFile]:
    walked: dict[tuple[int, int], str] = {}
    for place, _, names in os.walk(folder, onerror=_refuse, followlinks=True):
        status = Path(place).stat()
        # Links that lead back, or to one folder many times, would make the walk endless or exponentially long.
        before = walked.setdefault((status.st_dev, status.st_ino), place)
        if before != place:
            raise InputError(f"{place}: is a link to {before}, whose files are listed already; remove the link")
        for name in names:
            path = Path(place, name)
            try:
                status = path.stat()
                size, version = status.st_size, str(status.st_mtime_ns)
            except OSError:  # a link that leads nowhere becomes a reject when it is read
                size, version = 0, ""
            yield FolderFile(path.relative_to(folder).as_posix(), size, version)


def _refuse(error: OSError) -> None:
    raise error


def _walk_store(folder: UPath) -> Iterator[FolderFile]:
    for path, info in folder.fs.find(folder.path, detail=True).items():
        version = [str(info[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if key in info]
        yield FolderFile(path.removeprefix(folder.path).lstrip("/"), info["size"] or 0, " ".join(version))
