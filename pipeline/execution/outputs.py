"""Knows which files of an output folder a stage wrote, so that ``--overwrite`` removes these and no others.

The marker of a part lists the part's files, so those of a killed run are known, too. ``.files.json`` lists what else
appeared or changed while a run held the folder. It is the same whether or not earlier runs were killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from parsers.command import InputError
from pipeline.execution.parts import read_marker
from pipeline.files import list_folder
from shards.stage_folder import REPORT, STAGE
from shards.storage.files import TEMPORARY, AnyPath, read_record, write_record
from shards.storage.lock import LOCK

FILES = ".files.json"
_MARKER = re.compile(r"part-(\d{5,})\.stats\.json")


def list_outputs(out: AnyPath) -> dict[str, str]:
    """Lists everything below a folder but folders: for each path what changes when it is written again.

    A link is listed itself, and not what it leads to.
    """
    if not isinstance(out, Path):
        return {file.name: file.version for file in list_folder(out)}
    found = {}
    for place, folders, files in os.walk(out):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for path in (Path(place, name) for name in (*files, *links)):
            status = path.lstat()
            found[path.relative_to(out).as_posix()] = f"{status.st_ino} {status.st_mtime_ns}"
    return found


def record_outputs(out: AnyPath, before: Mapping[str, str], marked: Collection[str]) -> None:
    """Adds to the record what appeared or changed, but for what the markers of parts list already.

    Args:
        out: the output folder.
        before: what `list_outputs` returned when the run began.
        marked: the markers and the files that they list, as far as the run knows them.
    """
    present = list_outputs(out)
    written = {name for name in present if before.get(name) != present[name] and not name.endswith(TEMPORARY)}
    listed = written | (_read_record(out) & present.keys())
    write_record({"files": sorted(listed - {*marked, LOCK, FILES})}, out / FILES)


def remove_outputs(out: AnyPath) -> None:
    """Removes what earlier runs of the stage wrote.

    Raises:
        InputError: the folder is a link, or it holds anything else. Nothing is removed then.
    """
    if isinstance(out, Path) and out.is_symlink():
        raise InputError(f"{out} is a link, and --overwrite removes nothing behind links; name the folder itself")
    present = list_outputs(out).keys() - {LOCK}
    listed = _read_record(out) | _list_marked(out, present) | {STAGE, REPORT, FILES}
    if strangers := sorted(present - listed):
        more = f" and {len(strangers) - 1:,} more" if len(strangers) > 1 else ""
        raise InputError(
            f"{out} holds {strangers[0]}{more}, which no record of the stage lists, so --overwrite removes nothing; "
            "take out what is yours, or name another --out folder"
        )
    for name in present:
        (out / name).unlink()
    if isinstance(out, Path):
        for place, _, _ in os.walk(out, topdown=False):
            if Path(place) != out:
                Path(place).rmdir()


def _list_marked(out: AnyPath, present: Iterable[str]) -> set[str]:
    """The files that the markers of complete parts list, and the markers."""
    found: set[str] = set()
    for name in present:
        if number := _MARKER.fullmatch(name):
            marker = read_marker(out, int(number[1]))
            found |= {name} if marker is None else {name, *marker.files}
    return found


def _read_record(out: AnyPath) -> set[str]:
    """The files that earlier runs recorded.

    Raises:
        InputError: the record is damaged.
    """
    if not (out / FILES).exists():
        return set()
    files = read_record(out / FILES).get("files")
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise InputError(f"{out / FILES}: lists no files: it was damaged or changed; restore it, or name another --out")
    return set(files)
