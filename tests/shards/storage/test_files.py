"""Files that appear whole or not at all, their permissions, and what small files hold."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from upath import UPath

from parsers.checksums import sha256_of
from parsers.command import InputError
from shards.storage.files import (
    NewFile,
    check_free_disk,
    read_json,
    read_json_lines,
    read_text_lines,
    replace_atomic,
    write_atomic,
    write_indented_json,
    write_json,
)


@pytest.fixture(params=["disk", "s3", "memory"])
def folder(request, tmp_path):
    if request.param == "s3":
        return UPath(request.getfixturevalue("bucket")) / tmp_path.name
    return tmp_path if request.param == "disk" else UPath(f"memory://{tmp_path.name}")


# ------------------------------------------------------------------------------------------------------------ writing


def test_a_new_file_appears_when_it_is_published_and_not_before(folder):
    path = folder / "deep" / "a.bin"
    file = NewFile(path)
    file.stream.write(b"12345")
    file.flush()
    assert not path.exists()
    file.publish()
    assert path.read_bytes() == b"12345"
    assert (file.size, path.stat().st_size) == (5, 5)


def test_a_large_file_has_all_its_bytes(folder):
    pieces = [bytes([number % 256]) * (number * 1000 + 1) for number in range(160)]  # 13 MB in writes of all sizes
    file = NewFile(folder / "large")
    for piece in pieces:
        file.stream.write(piece)
    file.flush()
    file.publish()
    assert (folder / "large").read_bytes() == b"".join(pieces)
    assert file.size == sum(map(len, pieces))


def test_what_is_discarded_leaves_nothing(folder):
    write_atomic(folder / "a", b"old")
    file = NewFile(folder / "a")
    file.stream.write(b"new")
    file.discard()
    assert (folder / "a").read_bytes() == b"old"
    assert [path.name for path in folder.iterdir()] == ["a"]


TOO_LARGE = """
import resource, sys
from pathlib import Path
from shards.storage.files import NewFile, write_atomic

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path = Path(sys.argv[1])
file = NewFile(path)
file.stream.write(b"x" * 2000)  # held back so far
for write in (file.flush, lambda: write_atomic(path, b"x" * 2000), lambda: write_atomic(path, b"x" * 2_000_000)):
    try:
        write()
    except OSError as error:
        print(error.strerror)
file.discard()
"""


def test_what_finds_no_room_can_be_discarded(tmp_path):
    """To close the stream is to try once more."""
    done = subprocess.run([sys.executable, "-c", TOO_LARGE, tmp_path / "a"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (3 * "File too large\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_library_writes_a_file_that_appears_when_it_is_done(tmp_path):
    with replace_atomic(tmp_path / "deep" / "a") as path:
        path.unlink()
        path.write_bytes(b"12345")  # a file of its own, as a library may make it
        assert not (tmp_path / "deep" / "a").exists()
    assert [(child.name, child.read_bytes()) for child in (tmp_path / "deep").iterdir()] == [("a", b"12345")]


def write_and_fail(path):
    with replace_atomic(path) as temporary:
        temporary.write_bytes(b"new")
        raise OSError("no room")


def test_what_a_library_leaves_behind_when_it_fails_is_removed(tmp_path):
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(OSError, match="no room"):
        write_and_fail(tmp_path / "a")
    assert [(child.name, child.read_bytes()) for child in tmp_path.iterdir()] == [("a", b"old")]


@pytest.fixture(params=[0o022, 0o027])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask):
    write_atomic(tmp_path / "a", b"")
    write_json([], tmp_path / "b")
    write_indented_json({}, tmp_path / "c")
    with replace_atomic(tmp_path / "d") as path:
        path.chmod(0o600)
    file = NewFile(tmp_path / "e")
    file.flush()
    file.publish()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_free_space_is_a_matter_of_disks(tmp_path):
    with pytest.raises(InputError, match=r"pack needs .* free; make room"):
        check_free_disk(tmp_path, 1 << 60, "pack")
    check_free_disk(tmp_path, 1, "pack")
    check_free_disk(UPath("memory://x"), 1 << 60, "pack")


# ------------------------------------------------------------------------------------------------------------ reading


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / "a").write_bytes("a\n\nb c\u2028d\n".encode())
    assert read_text_lines(tmp_path / "a") == ["a", "", "b c\u2028d"]
    (tmp_path / "b").write_bytes(b"\xff")
    with pytest.raises(InputError, match="b: cannot be read"):
        read_text_lines(tmp_path / "b")


@pytest.mark.parametrize("write", [write_json, write_indented_json])
def test_json_is_read_as_it_was_written(folder, write):
    value = {"a": [1, 2.5, None, True], "é": "\u2028\n"}
    write(value, folder / "a.json")
    assert read_json(folder / "a.json") == value


def test_a_file_name_that_is_no_utf_8_can_be_written(tmp_path):
    write_indented_json({"path": os.fsdecode(b"\xff.jpg")}, tmp_path / "a.json")
    assert "\\udcff.jpg" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_lines_are_read_one_by_one(tmp_path):
    (tmp_path / "a").write_bytes(b'{"a": 1}\n"\xe2\x80\xa8"\n3\n')
    assert read_json_lines(tmp_path / "a") == [{"a": 1}, "\u2028", 3]
    (tmp_path / "a").write_bytes(b"1\n{\n")
    with pytest.raises(InputError, match="a: line 2: is no JSON"):
        read_json_lines(tmp_path / "a")


@pytest.mark.parametrize("read", [read_json, read_json_lines, sha256_of, read_text_lines])
def test_a_file_that_is_missing_is_named(tmp_path, read):
    with pytest.raises(InputError, match=r"missing\.json: cannot be read"):
        read(tmp_path / "missing.json")


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: is no JSON"):
        read_json(tmp_path / "a.json")


def test_a_checksum_is_that_of_the_bytes(folder):
    write_atomic(folder / "a", b"12345")
    assert sha256_of(folder / "a") == hashlib.sha256(b"12345").hexdigest()


FULL = """
import resource, sys
from pathlib import Path
from shards.storage.files import write_atomic

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # no file may be larger, as if the disk were full
try:
    write_atomic(Path(sys.argv[1]), bytes(int(sys.argv[2])))
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [2_000, 2_000_000])
def test_where_there_is_no_room_the_error_names_the_file_and_nothing_is_left(tmp_path, size):
    path = tmp_path / "manifest.json"
    command = [sys.executable, "-c", FULL, str(path), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout == f"[Errno 27] File too large: {str(path)!r}\n"
    assert list(tmp_path.iterdir()) == []
