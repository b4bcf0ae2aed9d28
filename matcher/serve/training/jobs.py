"""Trains versions, one at a time. A training is a process of its own that outlives the server.

The queue lies on the disk: it is the versions whose record says ``queued``. A server that starts again finds a training
that is still running by its command line, and goes on with one that has died meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from matcher.serve.projects.store import JobRecord, Project, State, Store, Version
from parsers.command import InputError

TRAIN = (sys.executable, "-m", "matcher.train")
"""the command that trains"""
_EVERY_SECONDS = 0.3
_PATIENCE_SECONDS = 60.0
"""So long a training may take to write its checkpoint when it is stopped; then it is killed."""
_NICE = 5
"""The server answers at once while a training computes."""
_TAIL = 1 << 16


@dataclass
class _Running:
    """A training that runs."""

    project: Project
    version: Version
    process: psutil.Process
    child: subprocess.Popen[bytes] | None
    """None if an earlier server started it"""
    stopped_at: float | None = None

    def poll(self) -> tuple[bool, int | None]:
        """Returns whether it has ended, and its exit code if that is known."""
        if self.child is not None:
            code = self.child.poll()
            return code is not None, code
        with suppress(psutil.NoSuchProcess):
            return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE, None
        return True, None


class Jobs:
    """The queue of trainings, and the one that runs."""

    def __init__(self, store: Store, command: Sequence[str] = TRAIN) -> None:
        self._store, self._command = store, list(command)
        self._running: _Running | None = None
        self._lock = threading.Lock()
        """Pages and the one thread write the same records."""

    async def run(self) -> None:
        """Starts trainings and looks after them, for ever."""
        await asyncio.to_thread(self.find_running)
        while True:
            await asyncio.to_thread(self.step)
            await asyncio.sleep(_EVERY_SECONDS)

    # --------------------------------------------------------------------------------------------- what pages ask for

    def add(self, project: Project, start: str | None, start_name: str, *, given_regions: bool) -> Version:
        """Puts a new version into the queue.

        Raises:
            InputError: the project has no captions.
        """
        if not project.contents.captioned:
            raise InputError("the project has no pictures with captions yet; put them in under Data")
        job = JobRecord(
            start=start,
            start_name=start_name,
            given_regions=given_regions,
            state="queued",
            queued_ns=time.time_ns(),
        )
        return project.add_version(job)

    def stop(self, version: Version) -> None:
        """Stops a training, or takes it out of the queue; `resume` goes on with it."""
        with self._lock:
            if version.job.state in ("queued", "running"):
                _set(version, "stopped")

    def resume(self, version: Version) -> None:
        """Puts a training that was stopped, or has failed, into the queue again."""
        with self._lock:
            job = version.job
            if job.state in ("stopped", "failed"):
                version.save_job(job.model_copy(update={"state": "queued", "queued_ns": time.time_ns(), "message": ""}))

    def kill(self, project: Project) -> None:
        """Ends the training of a project that is about to be deleted."""
        for version in project.versions():
            self.stop(version)
        running = self._running
        if running is not None and running.project.key == project.key:
            _signal(running, signal.SIGKILL)
            psutil.wait_procs([running.process], timeout=10)

    def queue(self) -> list[tuple[Project, Version]]:
        """Returns the trainings that wait, the next one first."""
        found = [
            (job.queued_ns, project, version)
            for project, version, job in self._list()
            if job.state == "queued" and not self._is_running(project, version)
        ]
        return [(project, version) for _, project, version in sorted(found, key=lambda item: item[0])]

    # --------------------------------------------------------------------------------------------------- the one thread

    def find_running(self) -> None:
        """Finds the training that an earlier server has left, and queues one that has died since."""
        for project, version, job in self._list():
            if job.state not in ("running", "stopped"):
                continue
            process = _find_process(version)
            if process is not None and self._running is None:
                self._running = _Running(project, version, process, None)
            elif job.state == "running":
                _set(version, "finished" if version.is_trained else "queued")

    def step(self) -> None:
        """Looks after the training that runs, or starts the next one."""
        with self._lock:
            self._step()

    def _step(self) -> None:
        if self._running is None:
            for project, version in self.queue()[:1]:
                self._running = self._start(project, version)
            return
        running = self._running
        ended, code = running.poll()
        if not running.version.folder.is_dir():  # its project was deleted
            if not ended:
                _signal(running, signal.SIGKILL)
            self._running = None
        elif ended:
            self._running = None
            self._finish(running, code)
        elif running.stopped_at is not None or running.version.job.state == "stopped":
            self._end(running)

    def _start(self, project: Project, version: Version) -> _Running | None:
        job = version.job
        arguments = [str(version.pictures), str(version.captions), "--out", str(version.matcher)]
        arguments += [] if job.start is None else ["--start", job.start]
        arguments += ["--regions", str(version.given_regions)] if job.given_regions else []
        _set(version, "running")
        environment = os.environ | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
        try:
            with version.log.open("ab") as log:
                child = subprocess.Popen(
                    [*self._command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C ends the server, not the training
                )
            process = psutil.Process(child.pid)
        except (OSError, psutil.NoSuchProcess) as error:
            _set(version, "failed", f"the training could not be started: {error}")
            return None
        with suppress(psutil.Error):
            process.nice(_NICE)
        return _Running(project, version, process, child)

    def _end(self, running: _Running) -> None:
        """Asks a training to stop; one that does not is killed."""
        now = time.monotonic()
        if running.stopped_at is None:
            running.stopped_at = now
            _signal(running, signal.SIGTERM)
        elif now - running.stopped_at > _PATIENCE_SECONDS:
            _signal(running, signal.SIGKILL)

    def _finish(self, running: _Running, code: int | None) -> None:
        project, version = running.project, running.version
        if version.is_trained:
            _set(version, "finished")
            shutil.rmtree(version.pictures, ignore_errors=True)  # the project has them
            record = project.record
            if record.in_use is None:
                project.save_record(record.model_copy(update={"in_use": version.number}))
        elif version.job.state == "running":
            _set(version, "failed", _explain(version, code))

    def _list(self) -> list[tuple[Project, Version, JobRecord]]:
        found = []
        for project in self._store.list_projects():
            for version in project.versions():
                with suppress(InputError):  # a damaged record is shown where the version is looked at
                    found.append((project, version, version.job))
        return found

    def _is_running(self, project: Project, version: Version) -> bool:
        running = self._running
        return running is not None and (running.project.key, running.version.number) == (project.key, version.number)


def is_stopping(version: Version) -> bool:
    """Says whether a training that was stopped still writes its checkpoint."""
    return version.job.state == "stopped" and _find_process(version) is not None


def _find_process(version: Version) -> psutil.Process | None:
    """Returns the process that writes to the folder of a version."""
    out = str(version.matcher)
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if "--out" in line[:-1] and line[line.index("--out") + 1] == out:
            return process
    return None


def _signal(running: _Running, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        running.process.send_signal(number)


def _set(version: Version, state: State, message: str = "") -> None:
    version.save_job(version.job.model_copy(update={"state": state, "message": message}))


def read_tail(version: Version) -> str:
    """Returns the end of what a training printed."""
    try:
        with version.log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _explain(version: Version, code: int | None) -> str:
    """Returns why a training has ended, in one line."""
    errors = [line for line in read_tail(version).splitlines() if line.startswith("error: ")]
    if code is not None and code < 0:
        return (
            f"the process was ended by the system ({signal.Signals(-code).name}); if that comes again, memory is short"
        )
    if errors:
        return errors[-1].removeprefix("error: ")
    lines = [line for line in read_tail(version).splitlines() if line.strip()]
    return lines[-1][:500] if lines else "the process ended without a word"
