"""Runs cases in processes that are watched: a result, or a clear error, within ten seconds and two gigabytes."""

import faulthandler
import multiprocessing
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import TextIO

import typer

from parsers.command import InputError
from tests.fuzz.mutations import copy, damage_files, names_in
from tests.fuzz.options import with_options
from tests.fuzz.targets import IN_PROCESS, WHOLE, Target, rejected

ROOT = Path(__file__).resolve().parents[2]
SECONDS, BYTES = 10.0, 2 << 30
"""What a case may take."""
CASES_OF_A_PROCESS = 300
ALWAYS = ("recipes", "lists")
"""Folders of which other files are named in a file."""
EXIT_CODES = (0, 1, 2, 130, 143)
USAGE: type[Exception] = typer.BadParameter.__base__ or typer.BadParameter
"""What Typer raises on any wrong usage."""
_MOST_OF_A_MESSAGE = 300
_MOST_SECONDS = 600
"""Of a command whose usual time is not known yet."""
_FRAME = re.compile(r'File "(.+?)", line (\d+),? in (\S+)')


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    number: int
    kind: str
    line: str
    damage: str
    ended: str
    """``read``, ``refused`` or ``failed``"""
    rejects: int = 0
    error: str = ""
    """of a failure: the type of what was raised, or ``hang``, ``signal 11`` and the like"""
    place: str = ""
    """of a failure: where in this repository"""
    message: str = ""
    seconds: float = 0.0
    """without copying and damaging the files"""

    @property
    def group(self) -> tuple[str, str, str]:
        """Failures of the same group have the same cause, most likely."""
        return self.kind, self.error, self.place


@dataclass
class Fuzzer:
    """Cases of one seed; case N is always the same."""

    seeds: Path
    """of `tests.fuzz.seeds`"""
    seed: int
    keep: Path | None = None
    """folder for the files of failures, of each group the first"""
    clean: bool = False
    """damage nothing: every case must be read"""
    _others: list[bytes] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _kept: set[tuple[str, str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        files = sorted(path for path in self.seeds.rglob("*") if path.is_file())
        self._others = [path.read_bytes()[: 1 << 16] for path in files]
        self._files = [str(path.relative_to(self.seeds)) for path in files]
        self._files += sorted({str(Path(name).parent) for name in self._files})

    # --------------------------------------------------------------------------------------------------------- a case

    def prepare(
        self, number: int, targets: tuple[Target, ...], folder: Path, *, everything: bool = False
    ) -> tuple[Target, str]:
        """Makes the folder of a case; returns its target and what was damaged.

        Args:
            number: of the case.
            targets: of which one is taken.
            folder: gets the inputs.
            everything: copy all seeds, also those that are not read; else those that the target reads.
        """
        target = targets[number % len(targets)]
        random = Random(f"{self.seed}/{number}")
        names = target.inputs(self.seeds)
        line = target.line
        copy(self.seeds, folder, names_in(self.seeds) if everything else [*ALWAYS, *names])
        if self.clean:
            return target, "nothing"
        if " --" in line and random.random() < (0.7 if everything else 0.2):
            line = with_options(line, self._files, random)
        damage = damage_files(folder, names, random, self._others) if names and random.random() < 0.95 else "nothing"
        return Target(target.kind, line), damage

    def run_here(self, number: int, folder: Path, connection: Connection, stacks: TextIO) -> Outcome:
        """A case in this process; says what it is before it is run. What takes too long ends the process."""
        target, damage = self.prepare(number, IN_PROCESS, folder)
        connection.send((target, damage))
        os.chdir(folder)
        faulthandler.dump_traceback_later(SECONDS, file=stacks, exit=True)
        started, ended, error, place, message, rejects = time.monotonic(), "read", "", "", "", 0
        try:
            rejects = target.run()
        except (InputError, USAGE):
            ended = "refused"
            rejects = rejected(Path("out"))
        except BaseException as found:  # that is what is looked for
            if isinstance(found, OSError) and found.filename is not None:
                ended = "refused"  # as `parsers.command.run` does it
            elif not isinstance(found, SystemExit) or found.code not in EXIT_CODES:
                ended, error, message = "failed", type(found).__name__, str(found)[:_MOST_OF_A_MESSAGE]
                place = _place("".join(traceback.format_tb(found.__traceback__)))
        seconds = time.monotonic() - started
        faulthandler.cancel_dump_traceback_later()
        return Outcome(number, target.kind, target.line, damage, ended, rejects, error, place, message, seconds)

    # ------------------------------------------------------------------------------------------------------ in process

    def run_in_process(self, numbers: Iterator[int], until: float) -> Iterator[Outcome]:
        """Cases one after the other in a process that is replaced when it fails, up to a time."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
            worker = _Worker(self, Path(work))
            try:
                for number in numbers:
                    if time.monotonic() > until:
                        return
                    outcome = worker.run(number)
                    self._keep(outcome, Path(work) / str(number))
                    worker.clear(number)
                    yield outcome
            finally:
                worker.stop()

    # -------------------------------------------------------------------------------------------------- whole commands

    def run_commands(self, numbers: Iterator[int], until: float) -> Iterator[Outcome]:
        """Whole commands, each a process of its own, up to a time."""
        limits: dict[str, float] = {}
        with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
            for number in numbers:
                if time.monotonic() > until:
                    return
                folder = Path(work) / str(number)
                target, damage = self.prepare(number, WHOLE, folder, everything=True)
                limit = self._limit(number, Path(work) / "clean", limits)
                outcome = _run_command(number, target, damage, folder, limit)
                self._keep(outcome, folder)
                _remove(folder)
                yield outcome

    def _limit(self, number: int, folder: Path, limits: dict[str, float]) -> float:
        """The seconds that a case may take: what starting and working take undamaged is no hang."""
        target = WHOLE[number % len(WHOLE)]
        if self.clean:
            return _MOST_SECONDS
        if target.line not in limits:
            copy(self.seeds, folder, names_in(self.seeds))
            undamaged = _run_command(number, target, "nothing", folder, _MOST_SECONDS)
            limits[target.line] = 2 * undamaged.seconds + SECONDS
            _remove(folder)
        return limits[target.line]

    def _keep(self, outcome: Outcome, folder: Path) -> None:
        if self.keep is None or outcome.ended != "failed" or outcome.group in self._kept:
            return
        self._kept.add(outcome.group)
        target = self.keep / f"{outcome.kind.replace(' ', '-')}-{outcome.number}"
        _remove(target)
        copy(
            folder,
            target,
            [word for word in names_in(folder) if word in outcome.line or word in outcome.damage],
        )
        target.mkdir(parents=True, exist_ok=True)
        words = (outcome.line, outcome.damage, f"{outcome.error} in {outcome.place}", outcome.message)
        (target / "case.txt").write_text("\n".join(words) + "\n", errors="backslashreplace")


class _Worker:
    """A process that runs cases, one at a time."""

    def __init__(self, fuzzer: Fuzzer, work: Path) -> None:
        self._fuzzer, self._work = fuzzer, work
        self._process: multiprocessing.Process | None = None
        self._stacks = work / "stacks"

    def run(self, number: int) -> Outcome:
        """Runs a case; what kills the process, or takes too long, has failed."""
        if self._process is None:
            self._start()
        self._connection.send(number)
        self._count += 1
        target, damage = IN_PROCESS[number % len(IN_PROCESS)], "not known"
        with suppress(EOFError):
            if self._connection.poll(6 * SECONDS):
                target, damage = self._connection.recv()
            if self._connection.poll(2 * SECONDS):
                outcome: Outcome = self._connection.recv()
                if self._count >= CASES_OF_A_PROCESS:
                    self.stop()
                return outcome
        self.stop()
        stacks = self._stacks.read_text(errors="replace")
        error = (
            "hang" if stacks.startswith("Timeout") else f"signal {-self._code}" if self._code < 0 else "broken fuzzer"
        )
        place, lines = _place(stacks, innermost_first=True), stacks.strip().splitlines() or [""]
        message = lines[0] if error != "broken fuzzer" else lines[-1]
        return Outcome(number, target.kind, target.line, damage, "failed", 0, error, place, message)

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._fuzzer, self._work, other, self._stacks))
        self._process.start()
        other.close()
        self._count = 0

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._code = self._process.exitcode or 0
            self._connection.close()
            self._process = None

    def clear(self, number: int) -> None:
        """Removes the files of a case."""
        _remove(self._work / str(number))


def _serve(fuzzer: Fuzzer, work: Path, connection: Connection, stacks: Path) -> None:
    """Runs the cases that are asked for, silently, in bounded memory."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 - they stay open
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    with stacks.open("w") as stream, suppress(EOFError):
        faulthandler.enable(stream)
        while True:
            number = connection.recv()
            stream.truncate(0)
            try:
                outcome = fuzzer.run_here(number, work / str(number), connection, stream)
            except BaseException:
                traceback.print_exc(file=stream)
                raise
            os.chdir(work)
            connection.send(outcome)


def _run_command(number: int, target: Target, damage: str, folder: Path, limit: float) -> Outcome:
    """A command line as a user starts it."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1",
        "TYPER_STANDARD_TRACEBACK": "1", "COLUMNS": "120",
    }  # fmt: skip
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(target.line)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES)),
        )
        code, hung, usage = _wait(process.pid, started + limit)
        seconds = time.monotonic() - started
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    traced = "Traceback (most recent call last)" in text
    if hung or traced or code not in EXIT_CODES or usage > BYTES // 1024:
        last = [line for line in text.splitlines() if re.match(r"\w[\w.]*(Error|Exception|Warning|Interrupt)\b", line)]
        found = last[-1] if last else text.strip()[-_MOST_OF_A_MESSAGE:]
        error = "hang" if hung else found.partition(":")[0].rpartition(".")[2] if traced else f"exit code {code}"
        error = "memory" if not hung and not traced and usage > BYTES // 1024 else error
        place = _place(text, innermost_first=hung or not traced)
        return Outcome(
            number, target.kind, target.line, damage, "failed", 0, error, place, found[:_MOST_OF_A_MESSAGE], seconds
        )
    ended = "read" if code == 0 else "refused"
    return Outcome(number, target.kind, target.line, damage, ended, rejected(folder / "out"), seconds=seconds)


def _wait(pid: int, until: float) -> tuple[int, bool, int]:
    """The exit code of a process, whether it had to be ended, and the most kilobytes that it or a child of it held."""
    hung = False
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), hung, usage.ru_maxrss
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL if hung else signal.SIGABRT)  # at the first, it says where it is
            hung, until = True, until + 5
        time.sleep(0.02)


def _place(text: str, *, innermost_first: bool = False) -> str:
    """The innermost place in this repository that a traceback names, not counting the tests."""
    frames = [
        (Path(file), line, function)
        for file, line, function in _FRAME.findall(text)
        if file.startswith(str(ROOT)) and not file.startswith(str(ROOT / "tests")) and "/.venv/" not in file
    ]
    if not frames:
        return "?"
    file, line, function = frames[0] if innermost_first else frames[-1]
    return f"{file.relative_to(ROOT)}:{line} {function}"


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=False)  # names may be what Python cannot decode
