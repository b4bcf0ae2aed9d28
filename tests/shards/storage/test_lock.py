"""Of two processes that write one folder, one is refused, and nothing else changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from upath import UPath

from parsers.command import InputError
from shards.storage.lock import LOCK, lock_folder

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from shards.storage.lock import lock_folder

with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""
RACER = """
import sys
from pathlib import Path
from parsers.command import InputError
from shards.storage.lock import lock_folder

print("ready", flush=True)
for folder in sys.stdin:
    try:
        with lock_folder(Path(folder.strip())):
            print("locked", flush=True)
            sys.stdin.readline()
    except InputError as error:
        print(error, flush=True)
        sys.stdin.readline()
"""


def start(program, folder):
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def write(process, line):
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


@pytest.fixture
def holder(tmp_path):
    process = start(HOLDER, tmp_path / "out")
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_the_process_that_writes(holder, tmp_path):
    (tmp_path / "out" / "part").write_text("of the first")
    with (
        pytest.raises(InputError, match=rf"out: process {holder.pid} on .* writes to this folder; wait until it ends"),
        lock_folder(tmp_path / "out"),
    ):
        pass
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LOCK, "part"]
    write(holder, "")
    holder.wait()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["part"]


def test_a_killed_run_leaves_no_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    with lock_folder(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / "out" / LOCK).exists()


def test_of_two_that_start_together_one_runs(tmp_path):
    racers = [start(RACER, tmp_path) for _ in range(2)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
    for number in range(20):
        folder = tmp_path / f"out-{number}"
        for racer in racers[:: 1 - 2 * (number % 2)]:
            write(racer, folder)
        said = [racer.stdout.readline() for racer in racers]
        assert said.count("locked\n") == 1
        assert sum(line.startswith(f"{folder}: ") and "writes to this folder" in line for line in said) == 1
        for racer in racers:
            write(racer, "")
    for racer in racers:
        racer.communicate()
    assert [
        path for folder in tmp_path.iterdir() for path in folder.iterdir()
    ] == []  # a loser may have made the folder


def test_the_lock_leaves_no_trace(tmp_path):
    with lock_folder(tmp_path / "deep" / "out"):
        pass
    assert not (tmp_path / "deep" / "out").exists()
    (tmp_path / "empty").mkdir()
    with lock_folder(tmp_path / "empty"):
        pass
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="out: cannot be written"), lock_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_store_says_that_it_has_no_lock(tmp_path, capsys):
    with lock_folder(UPath(f"memory://{tmp_path.name}")):
        pass
    assert "an object store cannot be locked" in capsys.readouterr().out
