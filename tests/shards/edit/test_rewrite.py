"""A new set appears whole or not at all, and only of sound samples."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parsers.command import InputError
from shards.edit.removal import Removal
from shards.edit.rewrite import write_set
from shards.reader import ShardSet
from shards.schema import key_of
from shards.storage.errors import ShardError
from shards.storage.lock import lock_folder
from shards.storage.scratch import scratch_folder
from tests.shards.samples import IDS, SAMPLES, assert_equal, contents, samples_of


def test_a_damaged_neighbour_is_not_written_again_as_if_it_were_sound(folder, tmp_path):
    offset, size = ShardSet(folder).shard(0).extents[2, 2]
    data = bytearray((folder / "shard-00000.tar").read_bytes())
    data[offset + size - 1] ^= 1
    (folder / "shard-00000.tar").write_bytes(data)
    shards = ShardSet(folder)
    with pytest.raises(ShardError, match=rf"shard-00000\.tar, sample {key_of(IDS[2])} is damaged"):
        write_set(tmp_path / "new", [(shards, Removal(images=frozenset([key_of(IDS[0])])))])
    assert not (tmp_path / "new").exists()
    write_set(tmp_path / "new", [(shards, Removal(images=frozenset([key_of(IDS[2])])))])
    assert_equal(samples_of(tmp_path / "new"), SAMPLES[:2] + SAMPLES[3:])


def test_an_existing_folder_is_not_touched(folder, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
    assert contents(tmp_path / "new") == {"notes.txt": b"mine"}


def test_a_folder_that_another_run_writes_is_refused(folder, tmp_path):
    with (
        lock_folder(tmp_path / "new"),
        pytest.raises(InputError, match=r"process \d+ on .* writes to this folder"),
    ):
        write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_too_small_a_disk_is_refused_with_the_bytes(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes, but the disk of .* has 1,000 free"):
        write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
    assert not list(tmp_path.glob("new*"))


KILLED_AT = """
import os, sys
from pathlib import Path
from shards.edit.rewrite import write_set
from shards.reader import ShardSet
from shards.edit.removal import Removal
from shards.schema import key_of

folder, out, image_id, calls = sys.argv[1:]
left = int(calls)

def count(frame, event, argument):
    global left
    if event in ("call", "c_call") and "shards/" in frame.f_code.co_filename:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

parts = [(ShardSet(Path(folder)), Removal(images=frozenset([key_of(image_id)])))]
sys.setprofile(count)
write_set(Path(out), parts)
sys.setprofile(None)
print(int(calls) - left)
"""


def test_a_kill_at_any_moment_leaves_the_old_set_or_the_new_one(folder, tmp_path):
    def killed_at(calls):
        command = [sys.executable, "-c", KILLED_AT, str(folder), str(tmp_path / "new"), IDS[0], str(calls)]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    before = contents(folder)
    whole = killed_at(10**9)
    calls = int(whole.stdout.split()[-1])
    expected = contents(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    left = []
    for moment in np.linspace(1, calls, 8).astype(int).tolist():
        assert killed_at(moment).returncode == -9
        assert contents(folder) == before
        if (tmp_path / "new").exists() and contents(tmp_path / "new").keys() != {".lock"}:
            assert contents(tmp_path / "new") == expected
            shutil.rmtree(tmp_path / "new")
        left.append(len(list(tmp_path.glob(".new.*.tmp"))))
    assert max(left) == 1, "a killed run leaves one unfinished folder, and the next one removes it"
    assert killed_at(10**9).returncode == 0, "the next run is not disturbed by what is left"
    assert contents(tmp_path / "new") == expected
    assert not (tmp_path / "new" / ".lock").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"], "the next run removes what is left"


def test_what_a_living_run_to_another_folder_writes_is_not_removed(folder, tmp_path):
    with lock_folder(tmp_path / "new.more"), scratch_folder(tmp_path / "new.more") as living:
        write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
        assert living.is_dir()


def test_the_unfinished_folder_of_a_living_run_is_not_removed(folder, tmp_path):
    with lock_folder(tmp_path / "new"), scratch_folder(tmp_path / "new") as living:
        with pytest.raises(InputError, match="writes to this folder"):
            write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
        assert living.is_dir()


def test_scratch_names_are_private_and_what_looks_like_an_older_one_is_not_removed(folder, tmp_path):
    (tmp_path / "new.tmp").mkdir()
    (tmp_path / "new.tmp" / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    write_set(tmp_path / "new", [(ShardSet(folder), Removal())])
    assert contents(tmp_path / "new.tmp") == {"notes.txt": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "new", "new.tmp", "old"]
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "elsewhere").stat().st_mode


def test_a_full_disk_is_one_error_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shards.edit.rewrite.flush", fill)
    with pytest.raises(InputError, match=r"new: could not be written: .*No space left on device"):
        write_set(tmp_path / "new", [(ShardSet(folder), Removal(images=frozenset([key_of(IDS[0])])))])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
