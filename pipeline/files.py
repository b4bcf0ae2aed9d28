"""Inputs and outputs of the stages: anything that fsspec reaches (``data/x``, ``s3://…``, ``gs://…``, ``hf://…``)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ijson
from upath import UPath

from parsers.command import InputError
from shards.storage.files import TEMPORARY, AnyPath

_GLOB = frozenset("*?[")


def location(text: str | Path) -> UPath:
    """The path that a user named.

    Raises:
        InputError: no installed package can reach it.
    """
    try:
        path = UPath(text)
        # A cached listing would hide what other processes have written since.
        return path if is_local(path) else UPath(text, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InputError(f"{text}: cannot be reached: {error}") from error


def expand(sources: Iterable[str | Path]) -> list[UPath]:
    """The paths that users named, patterns (``s3://bucket/*.tar``) replaced by what they match, in sorted order.

    Raises:
        InputError: a pattern matches nothing, or a file is missing or cannot be read.
    """
    paths = []
    for source in sources:
        path = location(source)
        if _exists(path):
            paths.append(path)
        elif _GLOB & set(str(source)):
            found = sorted(path.fs.glob(path.path))
            if not found:
                raise InputError(f"{source}: matches no file")
            prefix = "" if is_local(path) else f"{path.protocol}://"
            paths += [location(prefix + match) for match in found]
        else:
            raise InputError(f"{source}: there is no such file or folder")
    return paths


def _exists(path: UPath) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be reached: {error}") from error


def is_local(path: AnyPath) -> bool:
    """Whether the path is on a disk of this machine."""
    return isinstance(path, Path)


def is_inside(path: AnyPath, folder: AnyPath) -> bool:
    """Whether the path is the folder or lies somewhere below it."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.resolve().is_relative_to(folder.resolve())
    return f"{path}/".startswith(f"{folder}/")


def fingerprint(path: AnyPath) -> dict[str, Any]:
    """Names an input file by path, size and what changes when it is written again.

    That is the modification time on a disk, and the store's own description of the object (checksum, time) elsewhere.
    """
    try:
        size = path.stat().st_size
        if isinstance(path, Path):
            return {"path": str(path.resolve()), "bytes": size, "modified_ns": path.stat().st_mtime_ns}
        return {"path": str(path), "bytes": size, "version": path.fs.ukey(path.path)}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def remove_leftovers(folder: AnyPath) -> None:
    """Removes what killed runs were writing."""
    if isinstance(folder, Path):
        for path in folder.rglob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)


def remove_tree(folder: AnyPath) -> None:
    """Removes a folder and all that is in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.fs.rm(folder.path, recursive=True)


def read_items(path: AnyPath, key: str) -> Iterator[Any]:
    """The items of a list in a JSON object, one by one."""
    there = False
    try:
        with path.open("rb") as stream:
            for item in ijson.items(stream, f"{key}.item", use_float=True):
                there = True
                yield item
            if not there:  # an empty list is one
                stream.seek(0)
                there = any(prefix == key and event == "start_array" for prefix, event, _ in ijson.parse(stream))
    except (OSError, ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not there:
        raise InputError(f"{path}: has no list `{key}`, so it is not of this format")
