"""The models on this machine that a training can start from, and the detector that follows from each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from matcher.run_record import MODEL
from matcher.serve.projects.store import Project, Store
from parsers.command import InputError
from pipeline.detectors.choice import choose_detector
from pretrain.model.encoder import WEIGHTS
from pretrain.model.folder import model_folder, read_detector
from shards.regions.table import RegionsInfo
from shards.stage_folder import parts_of

NOTHING = "nothing"
"""The key of the choice to start from nothing."""


@dataclass(frozen=True)
class Start:
    """A choice of what to start from."""

    key: str
    """what forms call it; a path never comes from a form"""
    path: str | None
    """None: from nothing"""
    name: str
    given_regions: bool
    """whether the regions of the project are used"""
    detector: str | None
    """the name of the detector that finds the regions otherwise"""
    problem: str = ""
    """why it cannot be chosen"""


def list_starts(project: Project, store: Store, folders: Sequence[Path], *, cuda: bool) -> list[Start]:
    """Returns all choices for a project: the models of the folders, finished versions, and nothing.

    Args:
        project: the project.
        store: all projects.
        folders: folders with models, besides that of the store.
        cuda: whether there is a GPU.
    """
    given = RegionsInfo.from_file(parts_of(project.regions)[0]).feature_size if project.has_regions else None
    found: dict[Path, str] = {}
    for folder in (*folders, store.models):
        for path in _find_models(folder):
            found.setdefault(path.resolve(), path.name)
    for other in store.list_projects():
        for version in other.versions():
            if version.is_trained:
                found[version.matcher.resolve()] = f"{other.record.name}, version {version.number}"
    starts = [_describe(path, name, given, cuda=cuda) for path, name in found.items()]
    usable = [start for start in starts if not start.problem]
    return [*usable, _describe(None, "", given, cuda=cuda), *(start for start in starts if start.problem)]


def _find_models(folder: Path) -> Iterator[Path]:
    """Yields the models of a folder: itself, or those right below it."""
    for path in (folder, *sorted(folder.iterdir())) if folder.is_dir() else ():
        with suppress(InputError, OSError):
            if (model_folder(path) / WEIGHTS).is_file() and path.name != MODEL:
                yield path


def _describe(path: Path | None, name: str, given: int | None, *, cuda: bool) -> Start:
    key = NOTHING if path is None else hashlib.sha256(str(path).encode()).hexdigest()[:12]
    where = None if path is None else str(path)
    try:
        trained_on = None if path is None else read_detector(model_folder(path))
        size = None if trained_on is None else trained_on.feature_size
        if given is not None and size in (None, given):
            return Start(key, where, name, True, None)
        return Start(key, where, name, False, choose_detector(trained_on, cuda=cuda).name)
    except InputError as error:
        return Start(key, where, name, False, None, str(error).split("; give --detector")[0])
