"""A data set is copied to a folder, a store or the hub, and verified there."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from parsers.command import InputError
from shards.push.stores import FileStore, open_store
from shards.push.transfer import CLAIM, list_files, push
from shards.reader import ShardSet
from shards.storage.cache import Cache
from tests.shards.samples import SAMPLES, flip, write_shards

ROOT = Path(__file__).parents[3]
NAMES = [
    *("README.md", "card.png"),
    *(
        "train/index.parquet",
        "train/manifest.json",
        "train/shard-00000.tar",
        "train/shard-00001.tar",
        "train/vocab.txt",
    ),
    *("val/index.parquet", "val/manifest.json", "val/shard-00000.tar", "val/vocab.txt"),
]


@pytest.fixture
def folder(tmp_path):
    """Two sets with a card."""
    place = tmp_path / "data"
    place.mkdir()
    write_shards(place / "train", [SAMPLES[:2], SAMPLES[2:5]])
    write_shards(place / "val", [SAMPLES[5:]])
    (place / "README.md").write_text("# Card\n")
    (place / "card.png").write_bytes(b"picture")
    (place / "stage.json").write_text("{}")
    return place


def copy(folder, url):
    """Copies a data set and returns how many files were not there before."""
    return push(list_files(folder), open_store(str(url)), lambda done, rows=0: None).copied


def read(url):
    """The files at a place."""
    files, root = fsspec.url_to_fs(str(url), use_listings_cache=False)
    files.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def content(folder):
    return {name: (folder / name).read_bytes() for name in NAMES}


@pytest.fixture(params=["folder", "file://", "s3://"])
def place(request, tmp_path):
    """An empty place of each kind."""
    if request.param == "s3://":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return tmp_path / "there" if request.param == "folder" else f"file://{tmp_path}/there"


def test_a_data_set_is_copied_whole_and_once(folder, place):
    assert copy(folder, place) == len(NAMES)
    assert read(place) == content(folder)
    assert copy(folder, place) == 0


def test_a_damaged_or_missing_file_there_is_copied_again(folder, place):
    copy(folder, place)
    files, root = fsspec.url_to_fs(str(place))
    files.pipe_file(f"{root}/train/shard-00001.tar", b"x" * (folder / "train/shard-00001.tar").stat().st_size)
    files.rm_file(f"{root}/val/vocab.txt")
    assert copy(folder, place) == 2
    assert read(place) == content(folder)


def test_what_is_there_is_never_overwritten(folder, place, tmp_path):
    other = write_shards(tmp_path / "other", [SAMPLES])
    copy(other, place)
    before = read(place)
    with pytest.raises(InputError, match=r"holds another data set \(index\.parquet\); name an empty place"):
        copy(folder, place)
    assert read(place) == before


def test_a_set_that_is_being_copied_is_not_mixed_with_another(folder, tmp_path, monkeypatch):
    other = write_shards(tmp_path / "other", [SAMPLES])
    monkeypatch.setattr(FileStore, "put", fail)
    with pytest.raises(InputError, match="no room"):
        copy(folder, tmp_path / "there")
    monkeypatch.undo()
    with pytest.raises(InputError, match="another data set is being copied there"):
        copy(other, tmp_path / "there")
    (tmp_path / "there/notes.txt").write_text("mine")
    assert copy(folder, tmp_path / "there") == len(NAMES)
    assert (tmp_path / "there/notes.txt").read_text() == "mine"


def fail(*_):
    raise InputError("no room")


def test_a_place_with_other_files_is_refused(folder, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes\.txt\)"):
        copy(folder, tmp_path / "there")
    assert read(tmp_path / "there") == {"notes.txt": b"mine"}


def test_a_card_that_was_filled_in_there_stays(folder, tmp_path):
    copy(folder, tmp_path / "there")
    (tmp_path / "there/README.md").write_text("filled in")
    done = command(folder, tmp_path / "there")
    assert "README.md was there already and stays as it is" in done.stdout
    assert (tmp_path / "there/README.md").read_text() == "filled in"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "shards.push", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_damaged_set_is_not_copied(folder, tmp_path):
    flip(folder / "train/shard-00000.tar", 600)
    done = command(folder, tmp_path / "there")
    assert done.returncode == 1
    assert "shard-00000.tar: its sha256 differs from the manifest's" in done.stderr
    assert not (tmp_path / "there").exists()


def test_a_file_that_is_damaged_on_the_way_is_noticed(folder, tmp_path, monkeypatch):
    def put(self, files):
        for file in files:
            with self._replace(file.name) as path:
                Path(path).write_bytes(file.path.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(FileStore, "put", put)
    with pytest.raises(InputError, match=r"shard-00000\.tar: differs from .* after it was copied"):
        copy(folder, tmp_path / "there")
    assert not list((tmp_path / "there").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://bucket/name", "Protocol not known"),
        ("hf://models/someone/name", "a data set of the hub is called hf://datasets/USER/NAME"),
        ("hf://datasets/someone", "a data set of the hub is called hf://datasets/USER/NAME"),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_line(folder, url, message):
    with pytest.raises(InputError, match=message):
        copy(folder, url)


KILLED = """
import os, signal, sys
from pathlib import Path
from shards.push import stores
from shards.push.transfer import list_files, push

calls = 0

def dies(method, after):
    def call(*arguments):
        global calls
        calls += 1
        if calls == int(sys.argv[3]) and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments)
        if calls == int(sys.argv[3]) and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

Path.replace = dies(Path.replace, after=False)
stores.FileStore.remove = dies(stores.FileStore.remove, after=True)
push(list_files(Path(sys.argv[1])), stores.open_store(sys.argv[2]), lambda done, rows=0: None)
"""


@pytest.mark.parametrize("call", [1, 2, 4, 9, 11, 12, 13])
def test_a_killed_copy_goes_on_and_looks_whole_only_at_its_end(folder, tmp_path, call):
    there = tmp_path / "there"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, there, str(call)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    manifests = {name for name in read(there) if name.endswith("manifest.json")}
    others = {name for name in NAMES if name not in manifests} if manifests else set()
    assert all(name in read(there) for name in others if not name.endswith("manifest.json"))
    copy(folder, there)
    assert read(there) == content(folder)


def test_what_was_pushed_can_be_read_from_there(folder, bucket, tmp_path):
    copy(folder / "train", f"{bucket}/{tmp_path.name}/train")
    shards = ShardSet(f"{bucket}/{tmp_path.name}/train", Cache(tmp_path / "cache", 1 << 30))
    assert [shards.record(*place).image_id for place in shards] == [sample.image_id for sample in SAMPLES[:5]]


class Hub:
    """A hub in memory."""

    files: dict[str, bytes]
    commits: list[list[str]]

    def __init__(self):
        self.files, self.commits = {".gitattributes": b""}, []

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        assert (repo_id, repo_type, private, exist_ok) == ("someone/graphs", "dataset", True, True)

    def create_commit(self, _repo_id, operations, *, commit_message, repo_type):
        assert commit_message
        assert repo_type == "dataset"
        self.commits.append([operation.path_in_repo for operation in operations])
        for operation in operations:
            if hasattr(operation, "path_or_fileobj"):
                given = operation.path_or_fileobj
                self.files[operation.path_in_repo] = given if isinstance(given, bytes) else Path(given).read_bytes()
            else:
                del self.files[operation.path_in_repo]

    def list_repo_tree(self, _repo_id, *, recursive, repo_type):
        from huggingface_hub import RepoFile

        assert recursive
        assert repo_type == "dataset"
        for path, data in self.files.items():
            lfs = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 100}
            blob = subprocess.run(["git", "hash-object", "--stdin"], input=data, capture_output=True, check=True).stdout
            large = {"lfs": lfs} if path.endswith(".tar") else {}
            yield RepoFile(path=path, size=len(data), oid=blob.decode().strip(), type="file", **large)

    def hf_hub_download(self, _repo_id, name, *, repo_type):
        assert repo_type == "dataset"
        path = Path(os.environ["HUB_FILES"]) / "file"
        path.write_bytes(self.files[name])
        return path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    api = Hub()
    (tmp_path / "downloads").mkdir()
    monkeypatch.setenv("HUB_FILES", str(tmp_path / "downloads"))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    return api


def test_a_data_set_goes_to_the_hub_in_few_commits(folder, hub, tmp_path):
    url = "hf://datasets/someone/graphs"
    assert copy(folder, url) == len(NAMES)
    assert hub.files == {".gitattributes": b"", **content(folder)}
    assert [len(commit) for commit in hub.commits] == [1, len(NAMES) - 2, 2, 1]
    assert hub.commits[0] == hub.commits[3] == [CLAIM]
    assert hub.commits[2] == ["train/manifest.json", "val/manifest.json"]
    assert copy(folder, url) == 0
    hub.files["train/shard-00000.tar"] = b"damaged"
    hub.files["val/vocab.txt"] = b"damaged"
    assert copy(folder, url) == 2
    assert hub.files == {".gitattributes": b"", **content(folder)}
    with pytest.raises(InputError, match="holds another data set"):
        copy(write_shards(tmp_path / "other", [SAMPLES]), url)


@pytest.mark.parametrize("commit", [1, 2, 3])
def test_the_hub_goes_on_after_a_commit_that_failed(folder, hub, commit):
    url = "hf://datasets/someone/graphs/here"
    take = hub.create_commit

    def fail_once(*arguments, **options):
        if len(hub.commits) == commit:
            hub.create_commit = take
            raise OSError("no network")
        take(*arguments, **options)

    hub.create_commit = fail_once
    with pytest.raises(InputError, match="no network; sign in with `hf auth login`, and run the same command again"):
        copy(folder, url)
    copy(folder, url)
    assert hub.files == {".gitattributes": b"", **{f"here/{name}": data for name, data in content(folder).items()}}
