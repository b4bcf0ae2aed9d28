"""What killed runs have left is removed, and nothing else."""

import pytest

from shards.storage.files import NewFile
from shards.storage.lock import lock_folder
from shards.storage.scratch import new_folder, remove_leftovers

MINE = ("notes.tmp", ".notes.tmp", ".cache", "model.safetensors", ".a.12345678.tmp.txt")


@pytest.fixture
def folder(tmp_path):
    """Files of the user, and two that a killed run has not finished."""
    for name in MINE:
        (tmp_path / name).touch()
    for path in (tmp_path / "model.safetensors", tmp_path / "below/a.json"):
        NewFile(path).stream.close()
    assert len(list(tmp_path.rglob(".*.tmp"))) == 3
    return tmp_path


def test_unfinished_files_are_removed_from_the_folder_or_from_all_below(folder):
    remove_leftovers(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*MINE, "below"])
    assert list((folder / "below").iterdir())
    remove_leftovers(folder, below=True)
    assert not list((folder / "below").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*MINE, "below"])


def test_a_folder_that_is_not_there_has_none(tmp_path):
    remove_leftovers(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def write_half(out):
    with new_folder(out) as folder:
        (folder / "half").touch()
        raise RuntimeError


def test_a_new_folder_appears_as_a_whole_or_not_at_all(tmp_path):
    out = tmp_path / "out"
    with lock_folder(out):
        with pytest.raises(RuntimeError):
            write_half(out)
        assert [path.name for path in out.iterdir()] == [".lock"]
        with new_folder(out) as folder:
            (folder / "whole").touch()
            assert not (out / "whole").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]
