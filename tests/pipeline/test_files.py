import subprocess
import sys

import pytest
from upath import UPath

from parsers.command import InputError
from pipeline.files import expand, fingerprint, location
from shards.storage.files import NewFile, check_free_disk, read_lines, write_atomic


@pytest.fixture(params=["disk", "s3", "memory"])
def folder(request, tmp_path):
    if request.param == "s3":
        return location(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")
    return location(tmp_path if request.param == "disk" else f"memory://{tmp_path.name}")


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


def test_a_file_replaces_another_and_is_then_another(folder):
    write_atomic(folder / "a", b"old")
    before = fingerprint(folder / "a")
    assert fingerprint(folder / "a") == before
    write_atomic(folder / "a", b"new and longer")
    assert (folder / "a").read_bytes() == b"new and longer"
    assert fingerprint(folder / "a") != before


def test_files_have_the_rights_that_files_have(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


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


def test_free_space_is_a_matter_of_disks(tmp_path):
    with pytest.raises(InputError, match=r"pack needs .* free; make room"):
        check_free_disk(tmp_path, 1 << 60, "pack")
    check_free_disk(tmp_path, 1, "pack")
    check_free_disk(UPath("memory://x"), 1 << 60, "pack")


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / "a").write_bytes("a\n\nb c\u2028d\n".encode())
    assert read_lines(tmp_path / "a") == ["a", "", "b c\u2028d"]
    (tmp_path / "b").write_bytes(b"\xff")
    with pytest.raises(InputError, match="b: cannot be read"):
        read_lines(tmp_path / "b")
