"""All parts of a running server: the projects, the queue of trainings, the scorer, and the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from matcher.serve import incoming
from matcher.serve.guard import Access
from matcher.serve.match_queue import MatchQueue
from matcher.serve.projects.store import Project, Store, StoredRecord
from matcher.serve.training.jobs import TRAIN, Jobs
from matcher.serve.training.starts import Start, list_starts
from matcher.serve.worker.drawing import Drawn, ToDraw, draw_pictures
from matcher.serve.worker.pool import Worker, WorkerLostError
from matcher.serve.worker.understanding import make_sample, understand
from parsers.command import InputError

_READING_SECONDS, _DRAWING_SECONDS = 6 * 3600.0, 60.0
_MEMORY = 6 << 30
"""The most bytes of address space of a process that reads an upload. The largest picture takes a tenth of it."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server is started."""

    data: Path
    models: tuple[Path, ...] = ()
    """folders with models to start from"""
    access: Access = field(default_factory=Access)
    train: Sequence[str] = TRAIN
    """the command that trains"""


class Chosen(StoredRecord):
    """The project that answers at ``/match``."""

    project: str


class Server:
    """What pages and API work with."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.store = Store(settings.data)
        self.jobs = Jobs(self.store, settings.train)
        self.matches = MatchQueue()
        self.changing = asyncio.Lock()
        """Held while the contents of a project change: they are read, changed and written as a whole."""
        self._drawer = Worker(seconds=_DRAWING_SECONDS)
        self._readings: dict[str, asyncio.Task[None]] = {}
        self._readers: dict[str, Worker] = {}
        self._trainings: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Goes on with what an earlier server was doing."""
        self.store.clean()
        self._trainings = asyncio.create_task(self.jobs.run())
        for project in self.store.list_projects():
            if incoming.is_waiting(project):
                self.read_upload(project)

    async def close(self) -> None:
        """Ends all workers. A training goes on."""
        tasks = [*self._readings.values(), *([] if self._trainings is None else [self._trainings])]
        for task in tasks:
            task.cancel()
        for worker in (self._drawer, *self._readers.values()):
            worker.close()
        self.matches.close()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    # --------------------------------------------------------------------------------------------------------- uploads

    def read_upload(self, project: Project) -> None:
        """Begins to look at an upload, in a process of its own."""
        self.stop_reading(project)
        worker = self._readers[project.key] = Worker(seconds=_READING_SECONDS, memory=_MEMORY)
        self._readings[project.key] = asyncio.create_task(self._read(project, worker))

    def make_sample(self, project: Project) -> None:
        """Fills a project with a toy world; it is taken in as soon as it is made."""
        incoming.begin_sample(project)
        self.read_upload(project)

    def stop_reading(self, project: Project) -> None:
        """Ends the process that looks at the upload of a project, if there is one."""
        if (worker := self._readers.pop(project.key, None)) is not None:
            self._readings.pop(project.key).cancel()
            worker.close()

    async def _read(self, project: Project, worker: Worker) -> None:
        try:
            if incoming.is_sample(project):
                await worker.run(make_sample, project.incoming)
            await worker.run(understand, project.incoming, project.contents)
            if incoming.is_sample(project):
                async with self.changing:
                    await asyncio.to_thread(incoming.take_in, project)
        except WorkerLostError as error:
            incoming.fail(project, f"{error}: one of the files is hostile, or needs too much memory")
        except InputError as error:
            incoming.fail(project, str(error))
        finally:
            worker.close()
            if self._readers.get(project.key) is worker:
                del self._readers[project.key], self._readings[project.key]

    # ------------------------------------------------------------------------------------------------------------ pages

    async def draw(self, wanted: Sequence[ToDraw], regions: Path | None) -> list[Drawn]:
        """Draws pictures in a worker.

        Raises:
            WorkerLostError: the worker died.
            InputError: the regions cannot be read.
        """
        return await self._drawer.run(draw_pictures, wanted, regions) if wanted else []

    def list_starts(self, project: Project) -> list[Start]:
        """Returns what a training of a project can start from."""
        return list_starts(project, self.store, self.settings.models, cuda=torch.cuda.is_available())

    @property
    def chosen(self) -> Project | None:
        """The project that answers at ``/match``: the one that was chosen, or the only one that has a version."""
        path = self.store.folder / "chosen.json"
        if path.is_file():
            return self.store.find(Chosen.load(path).project)
        ready = [project for project in self.store.list_projects() if project.record.in_use is not None]
        return ready[0] if len(ready) == 1 else None

    def choose(self, project: Project) -> None:
        """Makes a project answer at ``/match``."""
        Chosen(project=project.key).save(self.store.folder / "chosen.json")
