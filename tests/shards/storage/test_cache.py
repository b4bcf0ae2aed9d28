"""A cache stays within its limit, whoever uses it and whenever a process dies."""

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from parsers.command import InputError
from shards.reader import ShardSet
from shards.storage.cache import Cache
from shards.storage.errors import ShardError
from tests.shards.samples import SAMPLES
from tests.shards.storage.reading import assert_reads_as, size_of

ROOT = Path(__file__).parents[3]


def test_a_second_reader_fetches_nothing_again(memory, local, tmp_path):
    cache = Cache(tmp_path / "cache", 10**9)
    assert_reads_as(memory, local, cache)
    files = fsspec.filesystem("memory")
    for tar in local.glob("*.tar"):
        files.pipe_file(f"/bucket/train/{tar.name}", bytes(tar.stat().st_size))
    assert_reads_as(memory, local, cache)


def test_the_cache_stays_within_its_limit(memory, local, tmp_path):
    size = max(path.stat().st_size for path in local.glob("*.tar"))
    assert_reads_as(memory, local, Cache(tmp_path / "cache", 2 * size))


def test_the_shard_that_was_opened_longest_ago_makes_room(tmp_path):
    cache = Cache(tmp_path, 25)
    contents = {name: name.encode() * 10 for name in "abc"}

    def use(name):
        data = contents[name]
        with cache.open(digest(data), len(data), f"{name}.tar", lambda: io.BytesIO(data)) as stream:
            assert stream.read() == data
        for path in tmp_path.glob("*.tar"):  # a second goes by
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))

    for name in "abac":
        use(name)
    assert {path.read_bytes() for path in tmp_path.glob("*.tar")} == {contents["a"], contents["c"]}


def test_arrays_of_an_evicted_shard_stay_readable(memory, local, tmp_path):
    size = max(path.stat().st_size for path in local.glob("*.tar"))
    cache = Cache(tmp_path / "cache", size)
    shards = ShardSet(memory, cache)
    features = shards.regions(0, 0).features
    for place in shards:
        shards.record(*place)
    assert len(list(cache.folder.glob("*.tar"))) == 1
    np.testing.assert_array_equal(features, SAMPLES[0].regions.features)


def test_a_cache_smaller_than_a_shard_is_refused(memory, tmp_path):
    with pytest.raises(InputError, match=r"shard-00000\.tar has [\d,]+ bytes, the cache .* holds 100"):
        ShardSet(memory, Cache(tmp_path / "cache", 100)).record(0, 0)


@pytest.mark.parametrize(("gigabytes", "limit"), [("1", 10**9), ("0.5", 5 * 10**8), ("much", None)])
def test_the_environment_says_where_and_how_large(tmp_path, monkeypatch, gigabytes, limit):
    monkeypatch.setenv("ERNIE_VIL_CACHE", str(tmp_path))
    monkeypatch.setenv("ERNIE_VIL_CACHE_GB", gigabytes)
    if limit is None:
        with pytest.raises(InputError, match="ERNIE_VIL_CACHE_GB is 'much'"):
            Cache.from_environment()
    else:
        assert Cache.from_environment() == Cache(tmp_path, limit)


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [b"short", b"much too long for it", b"other content"])
def test_what_was_fetched_wrongly_is_not_kept(tmp_path, data):
    cache = Cache(tmp_path, 1000)
    with pytest.raises(ShardError, match=r"a\.tar"):
        cache.open(digest(b"right content"), 13, "a.tar", lambda: io.BytesIO(data))
    assert not list(tmp_path.glob("*.tar*"))
    with cache.open(digest(b"right content"), 13, "a.tar", lambda: io.BytesIO(b"right content")) as stream:
        assert stream.read() == b"right content"


def test_of_two_that_want_a_shard_at_the_same_time_one_fetches_it(tmp_path):
    data, fetched, wanted = bytes(100), [], threading.Semaphore(0)
    cache = Cache(tmp_path, 1000)

    def fetch():
        fetched.append(1)
        for _ in threads:
            wanted.acquire(timeout=60)
        return io.BytesIO(data)

    def use():
        wanted.release()
        with cache.open(digest(data), len(data), "a.tar", fetch) as stream:
            assert stream.read() == data

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


def use(cache, data, source="a.tar"):
    """Opens a file through the cache, and says how often that fetched it."""
    fetched = []

    def fetch():
        fetched.append(source)
        return io.BytesIO(data)

    with cache.open(digest(data), len(data), source, fetch) as stream:
        assert stream.read() == data
    return len(fetched)


OTHER_PROCESS = """
import io, sys
from pathlib import Path
from shards.storage.cache import Cache

data = b"the content of a shard"
def fetch():
    print("fetched")
    return io.BytesIO(data)
with Cache(Path(sys.argv[1]), 1000).open(sys.argv[2], len(data), "a.tar", fetch) as stream:
    assert stream.read() == data
"""


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "link", "nothing"])
def test_a_process_compares_a_copy_when_it_first_opens_it_and_fetches_a_damaged_one_again(tmp_path, damage):
    data = b"the content of a shard"
    folder, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    assert use(Cache(folder, 1000), data) == 1
    copy = folder / f"{digest(data)}.tar"
    elsewhere.write_bytes(b"what a link leads to")
    if damage == "link":
        copy.unlink()
        copy.symlink_to(elsewhere)
    else:
        change = {"flip": data.replace(b"t", b"u", 1), "cut": data[:-1], "grow": data + b"!", "nothing": data}[damage]
        copy.write_bytes(change)
    command = [sys.executable, "-c", OTHER_PROCESS, str(folder), digest(data)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ("" if damage == "nothing" else "fetched\n")
    assert copy.read_bytes() == data
    assert not copy.is_symlink()
    assert elsewhere.read_bytes() == b"what a link leads to"


@pytest.mark.parametrize("suffix", [".tar.partial", ".lock"])
def test_no_link_is_written_through(tmp_path, suffix):
    data = b"the content of a shard"
    folder, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_bytes(b"mine")
    (folder / (suffix if suffix == ".lock" else digest(data) + suffix)).symlink_to(elsewhere)
    assert use(Cache(folder, 1000), data) == 1
    assert elsewhere.read_bytes() == b"mine"


@pytest.mark.parametrize("sha256", ["../" * 21 + "a", "/etc/passwd", "", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_nothing_but_a_checksum_names_a_copy(tmp_path, sha256):
    with pytest.raises(ShardError, match="is no SHA-256"):
        Cache(tmp_path / "cache", 1000).open(sha256, 1, "a.tar", lambda: io.BytesIO(b"a"))
    assert not (tmp_path / "cache").exists()


def test_files_of_others_in_the_folder_make_no_room(tmp_path):
    (tmp_path / "mine.tar").write_bytes(bytes(900))
    (tmp_path / "mine.partial").write_bytes(bytes(900))
    cache = Cache(tmp_path, 100)
    for number in range(3):
        use(cache, bytes([number]) * 60)
    assert (tmp_path / "mine.tar").exists()
    assert (tmp_path / "mine.partial").exists()
    assert len(list(tmp_path.glob("*.tar"))) == 2


KILLED = """
import io, os, sys
from pathlib import Path
from shards.storage.cache import Cache

class Dying(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            os.kill(os.getpid(), 9)
        return super().read(40)

Cache(Path(sys.argv[1]), 1000).open(sys.argv[2], 100, "a.tar", lambda: Dying(bytes(100)))
"""


def test_a_process_killed_while_it_fetches_leaves_nothing_that_disturbs(tmp_path):
    data = bytes(100)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), digest(data)], cwd=ROOT)
    assert done.returncode == -9
    assert list(tmp_path.glob("*.partial"))
    with Cache(tmp_path, 1000).open(digest(data), 100, "a.tar", lambda: io.BytesIO(data)) as stream:
        assert stream.read() == data
    assert not list(tmp_path.glob("*.partial"))


def test_what_a_killed_process_left_makes_room(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "0" * 64], cwd=ROOT)
    data = b"1" * 950
    Cache(tmp_path, 1000).open(digest(data), 950, "b.tar", lambda: io.BytesIO(data)).close()
    assert [path.suffix for path in tmp_path.glob("*.*") if path.name != ".lock"] == [".tar"]


READER = """
import sys
from pathlib import Path
import numpy as np
from shards.storage.cache import Cache
from shards.reader import ShardSet

url, folder, limit, seed = sys.argv[1:]
for _ in range(20):
    shards = ShardSet(url, Cache(Path(folder), int(limit)))  # a new one has no tar open
    for shard, row in np.random.default_rng(int(seed)).permutation(list(shards)).tolist():
        assert shards.record(shard, row)[1] == 90
        assert len(shards.regions(shard, row).features) == shards.shard(shard).num_boxes[row]
"""


def size_at_a_moment(folder):
    """Bytes of shards in the cache while no process may take or make room."""
    with (folder / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return size_of(folder)


def has_ended(process):
    try:
        process.wait(timeout=0.01)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_processes_share_a_cache_that_holds_two_of_four_shards(local, tmp_path):
    size = max(path.stat().st_size for path in local.glob("*.tar"))
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", READER, f"file://{local}", str(folder), str(2 * size)]
    readers = [subprocess.Popen([*command, str(seed)], cwd=ROOT, stderr=subprocess.PIPE) for seed in range(3)]
    for reader in readers:
        while not has_ended(reader):
            if folder.is_dir():
                assert size_at_a_moment(folder) <= 2 * size
        assert reader.returncode == 0, reader.stderr.read().decode()
        reader.stderr.close()
    assert size_of(folder) <= 2 * size
