"""Runs jobs several at a time, each in processes of its own with one thread and a log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event

from parsers.command import InputError, progress
from shards.storage.lock import lock_folder

Commands = Sequence[Sequence[str]]
"""Modules with their arguments, to be run one after the other."""


def run_jobs(jobs: Mapping[str, Commands], folder: Path, *, title: str, workers: int) -> None:
    """Runs all jobs. If one fails, those that run are ended.

    Args:
        jobs: by name, what to run. ``folder/NAME.log`` gets what it prints.
        folder: of the logs; it exists, and is locked meanwhile.
        title: of the progress display.
        workers: jobs at a time.

    Raises:
        InputError: a job has failed, and the message names its log; or another process runs jobs in the folder.
    """
    processes: list[subprocess.Popen[bytes]] = []
    stopped = Event()

    def run(name: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            for command in jobs[name]:
                if stopped.is_set():
                    return
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                line = [sys.executable, "-m", *command]
                process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
                processes.append(process)
                if process.wait() != 0:
                    stopped.set()
                    raise InputError(f"python -m {command[0]} failed; {log.name} says why")

    with lock_folder(folder), progress(title, len(jobs), "run") as advance, ThreadPoolExecutor(workers) as pool:
        try:
            for result in as_completed([pool.submit(run, name) for name in jobs]):
                result.result()
                advance(1)
        except BaseException:
            stopped.set()
            for process in processes:
                process.terminate()
            raise
