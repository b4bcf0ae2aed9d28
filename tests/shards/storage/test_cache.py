import fcntl
import hashlib
import io
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest

from parsers.command import InputError
from shards.errors import ShardError
from shards.inspect.verify import verify
from shards.reader import ShardSet
from shards.storage.cache import Cache
from tests.shards.samples import SAMPLES, VOCABULARY, write_shards

ROOT = Path(__file__).parents[3]
PARTS = [SAMPLES[:2], SAMPLES[2:4], SAMPLES[4:6], SAMPLES[6:]]


@pytest.fixture
def local(tmp_path):
    return write_shards(tmp_path / "local", PARTS)


@pytest.fixture
def memory(local):
    files = fsspec.filesystem("memory")
    for path in local.iterdir():
        files.pipe_file(f"/bucket/train/{path.name}", path.read_bytes())
    yield "memory://bucket/train"
    files.rm("/bucket", recursive=True)


@pytest.fixture
def s3(local, tmp_path, monkeypatch):
    """The set in a bucket of moto's S3 server, reached over HTTP."""
    moto = pytest.importorskip("moto.server", reason="install `moto[server]` to read shards from S3")
    pytest.importorskip("s3fs", reason="install `ernie-vil-pytorch[s3]` to read shards from S3")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    files = fsspec.filesystem("s3")
    bucket = f"bucket-{tmp_path.parent.name.lower()}-{tmp_path.name.lower().replace('_', '-')}"[-60:].strip("-")
    files.mkdir(bucket)
    files.put(str(local), f"{bucket}/train", recursive=True)
    yield f"s3://{bucket}/train"
    server.stop()


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".tar", ".partial"))


def assert_reads_as(url, local, cache):
    remote, expected = ShardSet(url, cache), ShardSet(local)
    assert remote.manifest == expected.manifest
    assert remote.vocabulary == VOCABULARY
    for place in np.random.default_rng(0).permutation(list(expected)).tolist():
        assert remote.record(*place) == expected.record(*place)
        np.testing.assert_array_equal(remote.regions(*place).features, expected.regions(*place).features, strict=True)
        assert size_of(cache.folder) <= cache.limit


# ------------------------------------------------------------------------------------------------------ remote folders


@pytest.mark.parametrize("remote", ["memory", "s3", "file"])
def test_remote_shards_are_read_as_local_ones(remote, request, local, tmp_path):
    url = f"file://{local}" if remote == "file" else request.getfixturevalue(remote)
    assert_reads_as(url, local, Cache(tmp_path / "cache", 10**9))
    assert [
        problem for _, problems in verify(ShardSet(url, Cache(tmp_path / "cache", 10**9))) for problem in problems
    ] == []


def test_a_second_reader_fetches_nothing_again(memory, local, tmp_path):
    cache = Cache(tmp_path / "cache", 10**9)
    assert_reads_as(memory, local, cache)
    files = fsspec.filesystem("memory")
    for tar in local.glob("*.tar"):
        files.pipe_file(f"/bucket/train/{tar.name}", bytes(tar.stat().st_size))
    assert_reads_as(memory, local, cache)


def test_worker_processes_that_were_forked_read_from_s3(s3, tmp_path):
    shards = ShardSet(s3, Cache(tmp_path / "cache", 10**9))
    assert shards.record(0, 0)[0] == SAMPLES[0].image_id
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    workers = [fork.Process(target=lambda: found.put([shards.record(*place)[0] for place in shards])) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [found.get(timeout=60) for _ in workers] == [[sample.image_id for sample in SAMPLES]] * 2
    for worker in workers:
        worker.join()


@pytest.mark.parametrize("url", ["memory://no/such/folder", "memory://bucket"])
def test_a_url_without_a_set_is_refused(memory, url, tmp_path):
    with pytest.raises(InputError, match=rf"{url}: has no manifest\.json"):
        ShardSet(url, Cache(tmp_path / "cache", 10**9))


def test_an_unknown_kind_of_url_is_refused(tmp_path):
    with pytest.raises(InputError, match="nosuch://"):
        ShardSet("nosuch://bucket", Cache(tmp_path / "cache", 10**9))


def test_a_remote_shard_with_a_flipped_bit_is_refused_and_not_kept(memory, local, tmp_path):
    files = fsspec.filesystem("memory")
    data = bytearray((local / "shard-00001.tar").read_bytes())
    data[700] ^= 1
    files.pipe_file("/bucket/train/shard-00001.tar", bytes(data))
    cache = Cache(tmp_path / "cache", 10**9)
    shards = ShardSet(memory, cache)
    with pytest.raises(ShardError, match=r"memory://bucket/train/shard-00001\.tar: its sha256 differs"):
        shards.record(1, 0)
    assert not list(cache.folder.glob("*.tar*"))
    assert shards.record(0, 0)[0] == SAMPLES[0].image_id
    found = [problem for _, problems in verify(shards) for problem in problems]
    assert ["sha256" in problem.what for problem in found] == [True]


def test_a_remote_shard_that_is_gone_is_named(memory, tmp_path):
    shards = ShardSet(memory, Cache(tmp_path / "cache", 10**9))
    fsspec.filesystem("memory").rm("/bucket/train/shard-00002.tar")
    with pytest.raises(ShardError, match=r"shard-00002\.tar is missing; the manifest lists it"):
        shards.record(2, 0)


# ------------------------------------------------------------------------------------------------------------- bounds


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
        time.sleep(0.02)

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


# ------------------------------------------------------------------------------------------------- several processes


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
    data, fetched = bytes(100), []
    cache = Cache(tmp_path, 1000)

    def fetch():
        fetched.append(1)
        time.sleep(0.2)
        return io.BytesIO(data)

    def use():
        with cache.open(digest(data), len(data), "a.tar", fetch) as stream:
            assert stream.read() == data

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


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


def test_processes_share_a_cache_that_holds_two_of_four_shards(local, tmp_path):
    size = max(path.stat().st_size for path in local.glob("*.tar"))
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", READER, f"file://{local}", str(folder), str(2 * size)]
    readers = [subprocess.Popen([*command, str(seed)], cwd=ROOT, stderr=subprocess.PIPE) for seed in range(3)]
    while any(reader.poll() is None for reader in readers):
        if folder.is_dir():
            assert size_at_a_moment(folder) <= 2 * size
        time.sleep(0.01)
    for reader in readers:
        assert reader.wait() == 0, reader.stderr.read().decode()
        reader.stderr.close()
    assert size_of(folder) <= 2 * size
