"""An upload on its way into a project: it is looked at, shown, and taken in or discarded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from matcher.serve.projects.store import Contents, Project, ProjectPicture, link_or_copy
from matcher.serve.uploads import Form
from matcher.serve.worker.understanding import (
    PROGRESS,
    RECEIVED,
    REGIONS,
    THUMBNAILS,
    UNDERSTOOD,
    UPLOAD,
    Understood,
    Upload,
)
from parsers.command import InputError
from shards.storage.files import write_atomic

ERROR = "error"
"""The file that says why an upload could not be looked at."""
SAMPLE = "sample"
"""The file that says that a toy world is to be made."""


def begin_upload(project: Project) -> Path:
    """Makes the folder for the files of an upload, in place of an earlier one."""
    discard(project)
    received = project.incoming / RECEIVED
    received.mkdir(parents=True)
    return received


def accept_upload(project: Project, form: Form, columns: Mapping[str, str]) -> None:
    """Records what came, so that it can be looked at.

    Raises:
        InputError: no file came.
    """
    if not form.files:
        discard(project)
        raise InputError("no file was chosen")
    files = tuple((name, int(path.name)) for name, path in form.files)
    Upload(files=files, columns=dict(columns)).save(project.incoming / UPLOAD)


def begin_sample(project: Project) -> None:
    """Asks for a toy world in place of an upload."""
    discard(project)
    project.incoming.mkdir()
    (project.incoming / SAMPLE).touch()


def is_sample(project: Project) -> bool:
    """Says whether a toy world was asked for."""
    return (project.incoming / SAMPLE).is_file()


def discard(project: Project) -> None:
    """Removes an upload."""
    shutil.rmtree(project.incoming, ignore_errors=True)


def is_waiting(project: Project) -> bool:
    """Says whether there is an upload that was not looked at yet."""
    return ((project.incoming / UPLOAD).is_file() or is_sample(project)) and not is_looked_at(project)


def is_looked_at(project: Project) -> bool:
    """Says whether there is an upload that was looked at, with whatever result."""
    return any((project.incoming / name).is_file() for name in (UNDERSTOOD, ERROR))


def read_progress(project: Project) -> tuple[int, int]:
    """Returns how many pictures of an upload were looked at, and how many there are."""
    try:
        done, total = (project.incoming / PROGRESS).read_text().split()
        return int(done), int(total)
    except (OSError, ValueError):
        return 0, 0


def read_understood(project: Project) -> Understood | None:
    """Returns what was found in an upload, or None if there is none that was looked at."""
    path = project.incoming / UNDERSTOOD
    return Understood.load(path) if path.is_file() else None


def fail(project: Project, reason: str) -> None:
    """Records why an upload could not be looked at."""
    write_atomic(project.incoming / ERROR, reason.encode())


def read_error(project: Project) -> str | None:
    """Returns why an upload could not be looked at, or None."""
    path = project.incoming / ERROR
    return path.read_text(encoding="utf-8") if path.is_file() else None


def take_in(project: Project) -> None:
    """Makes what was understood part of a project. If this was stopped half-way, it can be done again.

    Raises:
        InputError: nothing was understood yet.
    """
    understood, incoming = read_understood(project), project.incoming
    if understood is None:
        raise InputError("there is no upload that was looked at")
    for folder in (project.pictures, project.thumbnails):
        folder.mkdir(exist_ok=True)
    known = {picture.image_id: picture for picture in project.contents.pictures}
    for new in understood.pictures:
        if new.image_id not in known:
            _replace(incoming / new.path, project.pictures / new.file)
            _replace(incoming / THUMBNAILS / f"{new.image_id}.jpg", project.thumbnails / f"{new.image_id}.jpg")
            known[new.image_id] = ProjectPicture(**new.model_dump(exclude={"path"}))
    for image_id, texts in understood.captions.items():
        if image_id in known:
            before = known[image_id]
            both = tuple(dict.fromkeys((*before.captions, *texts)))
            known[image_id] = before.model_copy(update={"captions": both})
    if understood.regions is not None and (incoming / REGIONS).is_dir():
        shutil.rmtree(project.regions, ignore_errors=True)
        (incoming / REGIONS).replace(project.regions)
    os.sync()  # the pictures must be on the disk before the record that names them
    project.save_contents(Contents(pictures=tuple(known.values())))
    discard(project)


def _replace(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    link_or_copy(source, target)
