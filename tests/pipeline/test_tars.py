"""Tars that are laid out oddly or lie about their sizes."""

import io
import struct
import tarfile

import pytest

from parsers.command import InputError
from pipeline.parse.stage import ParseStage
from pipeline.tars import TarDamage, read_samples
from tests.shards.samples import with_size


def tar(path, *members, format=tarfile.GNU_FORMAT):
    """Writes a tar of names with their contents, or of entries as they are."""
    with tarfile.open(path, "w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            entry = tarfile.TarInfo(member[0])
            entry.size = len(member[1])
            archive.addfile(entry, io.BytesIO(member[1]))
    return path


def kinds(path):
    return [sample.position if isinstance(sample, TarDamage) else sample.key for sample in read_samples(path, ("txt",))]


def partitions(*paths):
    return list(ParseStage(tuple((path, "webdataset") for path in paths), "sng", "1", 100).partitions())


def test_a_key_in_two_tars_is_refused_unless_an_url_tells_the_pictures_apart(tmp_path):
    a = tar(tmp_path / "a.tar", ("0.txt", b"a dog"), ("1.txt", b"a cat"))
    b = tar(tmp_path / "b.tar", ("2.txt", b"a dog"), ("1.txt", b"a bus"))
    with pytest.raises(InputError, match=r"a\.tar and .*b\.tar both have a sample 1"):
        partitions(a, b)
    json = ("0.json", b'{"url": "http://x/1.jpg"}')
    c = tar(tmp_path / "c.tar", ("0.txt", b"a bus"), json)
    (partition,) = partitions(a, c)
    assert partition.rows["image_id"].to_pylist() == ["0", "1", "http://x/1.jpg"]


def test_members_that_do_not_lie_side_by_side_are_refused(tmp_path):
    path = tar(tmp_path / "a.tar", ("0.jpg", b"x"), ("1.jpg", b"x"), ("0.txt", b"a dog"), ("1.txt", b"a cat"))
    with pytest.raises(InputError, match=r"sample 0 do not lie side by side; .*--sort=name"):
        kinds(path)


def test_the_files_of_macos_are_passed_over(tmp_path):
    path = tar(tmp_path / "a.tar", ("._0.jpg", b"x"), ("0.jpg", b"x"), ("._0.txt", b"x"), ("0.txt", b"a dog"))
    (sample,) = read_samples(path, ("txt",))
    assert sample.contents == {"txt": b"a dog"}


@pytest.mark.parametrize("type", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_sample_with_a_link_is_a_reject(tmp_path, type):
    link = tarfile.TarInfo("1.txt")
    link.type, link.linkname = type, "0.txt"
    path = tar(tmp_path / "a.tar", ("0.txt", b"a dog"), link, ("2.txt", b"a cat"))
    first, second, third = read_samples(path, ("txt",))
    assert second == TarDamage("sample 1", "its .txt is a link or a device")
    assert (first.key, third.key) == ("0", "2")


def test_a_sample_with_one_member_twice_is_a_reject(tmp_path):
    path = tar(tmp_path / "a.tar", ("0.txt", b"a dog"), ("0.txt", b"a cat"))
    assert list(read_samples(path, ("txt",))) == [TarDamage("sample 0", "it has more than one .txt")]


@pytest.mark.parametrize("size", [-1, -512, -(1 << 60), 1 << 20, 1 << 40, 1 << 70])
@pytest.mark.parametrize("name", ["1.txt", "1.jpg", "1/"])
def test_a_size_that_the_file_does_not_have_ends_the_tar(tmp_path, name, size):
    whole = tar(tmp_path / "a.tar", ("0.txt", b"a dog"), (name, b"x" * 10), ("2.txt", b"a cat")).read_bytes()
    path = tmp_path / "b.tar"
    path.write_bytes(whole[:1024] + with_size(whole[1024:], size))
    *_, last = read_samples(path, ("txt",))
    assert isinstance(last, TarDamage)
    assert "samples may be missing" in last.reason


@pytest.mark.parametrize("type", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK])
def test_an_extended_header_is_bounded(tmp_path, type):
    path = tmp_path / "a.tar"
    head = tarfile.TarInfo("0.txt")
    head.type = type
    with path.open("wb") as stream:
        stream.write(with_size(head.tobuf(tarfile.GNU_FORMAT), 1 << 33))
        stream.truncate(1 << 33)
    (damage,) = read_samples(path, ("txt",))
    assert "header of more than" in damage.reason


def test_sparse_files_are_rejects(tmp_path):
    """Eight gigabytes of nothing in two blocks: the map of GNU's old format says where there is something."""
    head = tarfile.TarInfo("0.txt")
    head.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(head.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"\x80" + struct.pack(">3xQ", 1 << 33)
    path = tmp_path / "a.tar"
    path.write_bytes(with_size(bytes(header), 0) + bytes(1024))
    assert list(read_samples(path, ("txt",))) == [TarDamage("sample 0", "its .txt is a sparse file")]
    endless = bytearray(header)
    endless[482] = 1  # the map goes on in the next block, and this in the next
    block = bytearray(512)
    block[504] = 1
    path.write_bytes(with_size(bytes(endless), 0) + bytes(block) * 10_000)
    (damage,) = read_samples(path, ("txt",))
    assert isinstance(damage, TarDamage)


def test_a_sparse_map_of_pax_that_never_ends_is_bounded(tmp_path):
    entry = tarfile.TarInfo("0.txt")
    entry.size = 512
    entry.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": "9",
        "GNU.sparse.name": "0.txt",
    }
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(b"99999999\n" + b"0" * 503))
    (damage,) = read_samples(path, ("txt",))
    assert isinstance(damage, TarDamage)


def test_a_text_of_gigabytes_is_not_read(tmp_path):
    entry = tarfile.TarInfo("0.txt")
    entry.size = 1 << 32
    path = tmp_path / "a.tar"
    with path.open("wb") as stream:
        stream.write(entry.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(512 + (1 << 32) + 1024)
    assert list(read_samples(path, ("txt",))) == [TarDamage("sample 0", "its .txt has more than 16,777,216 bytes")]
