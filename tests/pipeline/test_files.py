import os

import pytest

from parsers.command import InputError
from pipeline.files import expand, fingerprint, list_folder, location
from shards.storage.files import write_atomic


@pytest.fixture(params=["disk", "s3", "memory"])
def folder(request, tmp_path):
    if request.param == "s3":
        return location(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")
    return location(tmp_path if request.param == "disk" else f"memory://{tmp_path.name}")


def test_a_file_replaces_another_and_is_then_another(folder):
    write_atomic(folder / "a", b"old")
    before = fingerprint(folder / "a")
    assert fingerprint(folder / "a") == before
    write_atomic(folder / "a", b"new and longer")
    assert (folder / "a").read_bytes() == b"new and longer"
    assert fingerprint(folder / "a") != before


def test_patterns_stand_for_what_they_match_in_order(folder):
    for name in ("b.tar", "a.tar", "c.txt", "[x].tar"):
        write_atomic(folder / name, b"")
    assert [path.name for path in expand([f"{folder}/*.tar"])] == ["[x].tar", "a.tar", "b.tar"]
    assert [path.name for path in expand([f"{folder}/c.txt", f"{folder}/b*"])] == ["c.txt", "b.tar"]
    assert [path.name for path in expand([f"{folder}/[x].tar"])] == ["[x].tar"]
    with pytest.raises(InputError, match=r"\*\.zip: matches no file"):
        expand([f"{folder}/*.zip"])
    with pytest.raises(InputError, match="missing: there is no such file"):
        expand([f"{folder}/missing"])


@pytest.mark.parametrize("address", ["nonsense://x", "s3://no-such-bucket/x"])
def test_a_place_that_cannot_be_reached_is_an_input_error(bucket, address):
    with pytest.raises(InputError, match=address):
        expand([address])


def test_links_that_lead_back_are_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.jpg").write_bytes(b"")
    assert [file.name for file in list_folder(tmp_path)] == ["a/b/x.jpg"]
    (tmp_path / "a" / "b" / "c").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match=r"c: is a link to .*a, whose files are listed already"):
        list_folder(tmp_path)


def test_links_that_multiply_are_refused(tmp_path):
    """Thirty folders, each with two links to the next, hold a file under a billion names."""
    for number in range(30):
        (tmp_path / str(number)).mkdir()
        for name in "ab":
            (tmp_path / str(number) / name).symlink_to(tmp_path / str(number + 1))
    (tmp_path / "30").mkdir()
    with pytest.raises(InputError, match="listed already"):
        list_folder(tmp_path / "0")


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_neither_file_nor_folder_is_no_input(tmp_path, kind):
    path = tmp_path / "a.json"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a file"):
        expand([path])
