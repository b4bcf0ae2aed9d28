"""Sets of shards behind a URL are read as local ones."""

import multiprocessing

import fsspec
import pytest

from parsers.command import InputError
from shards.inspect.verify import verify_set
from shards.reader import ShardSet
from shards.storage.cache import Cache
from shards.storage.errors import ShardError
from shards.storage.folders import map_file, open_folder
from tests.shards.samples import SAMPLES
from tests.shards.storage.reading import assert_reads_as


@pytest.mark.parametrize("remote", ["memory", "s3", "file"])
def test_remote_shards_are_read_as_local_ones(remote, request, local, tmp_path):
    url = f"file://{local}" if remote == "file" else request.getfixturevalue(remote)
    assert_reads_as(url, local, Cache(tmp_path / "cache", 10**9))
    assert [
        problem for _, problems in verify_set(ShardSet(url, Cache(tmp_path / "cache", 10**9))) for problem in problems
    ] == []


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
    found = [problem for _, problems in verify_set(shards) for problem in problems]
    assert ["sha256" in problem.what for problem in found] == [True]


def test_a_remote_shard_that_is_gone_is_named(memory, tmp_path):
    shards = ShardSet(memory, Cache(tmp_path / "cache", 10**9))
    fsspec.filesystem("memory").rm("/bucket/train/shard-00002.tar")
    with pytest.raises(ShardError, match=r"shard-00002\.tar is missing; the manifest lists it"):
        shards.record(2, 0)


def test_a_map_outlives_the_name_of_its_file(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    mapped = map_file((tmp_path / "a").open("rb"))
    (tmp_path / "a").unlink()
    assert mapped[:] == b"12345"


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert open_folder(tmp_path / "missing", None).sizes() == {}
    assert open_folder("memory://missing/folder", Cache(tmp_path, 1)).sizes() == {}
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    assert open_folder(tmp_path, None).sizes() == {"a": 3}
