"""Runs a step in a process of its own, which is stopped with all that it has started when its time is up."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from benchmarks.gpu.report import Outcome
from benchmarks.gpu.steps import Findings, Setting, Skip, Step

OWN = tuple(path.name for path in Path(__file__).resolve().parents[2].iterdir() if (path / "__init__.py").is_file())
"""Packages of the project. A missing one is a mistake, and no reason to skip a step."""
_context = multiprocessing.get_context("forkserver")


def preload() -> None:
    """Makes all processes fork from one that has imported what most of them need, so imports are paid once."""
    _context.set_forkserver_preload(["benchmarks.gpu.preload"])


def run(step: Step, setting: Setting, seconds: float) -> Outcome:
    """Runs a step for at most ``seconds``, which may be less than it asks for."""
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_work, args=(step, setting, sender))
    started = time.monotonic()
    process.start()
    sender.close()
    wait([receiver, process.sentinel], timeout=seconds)
    took = time.monotonic() - started
    try:
        outcome = _received(step, receiver, took)
        if outcome is None and took < seconds:
            process.join()
            return Outcome(step.name, "fail", took, f"its process has ended with exit code {process.exitcode}")
        return outcome or Outcome(step.name, "fail", took, f"stopped after {took:.0f} s, its limit")
    finally:
        assert process.pid is not None
        with suppress(ProcessLookupError):  # there is no such session yet, or no longer
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _received(step: Step, receiver: Connection, took: float) -> Outcome | None:
    """Returns what the process has found, or None if it has not sent anything."""
    try:
        if not receiver.poll():
            return None
        status, reason, findings = receiver.recv()
    except EOFError:
        return None
    return Outcome(step.name, status, took, reason, findings.figures, findings.notes)


def _work(step: Step, setting: Setting, sender: Connection) -> None:
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(setting.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    print(f"\n===== {step.name}", flush=True)
    findings = Findings()
    module, _, function = step.work.partition(":")
    status, reason = "pass", ""
    try:
        getattr(importlib.import_module(module), function)(setting, findings, **step.arguments)
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Exception as error:
        traceback.print_exc()
        package = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
        if package and package not in OWN:
            status, reason = "skipped", f"the package {package} is missing"
        else:
            kind = "" if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: "
            status, reason = "fail", f"{kind}{error}".strip()
    if findings.failures:
        status, reason = "fail", "; ".join(filter(None, [*findings.failures, reason]))
    print(f"{step.name}: {status} {reason}", flush=True)
    sender.send((status, reason, findings))


def _end_with_parent() -> None:
    """Ends this process and all that it has started when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
