"""Which files are the pictures of which images, and how they are seen."""

import io
import os

import pytest
from PIL import Image

from shards.pictures import (
    MAX_BYTES,
    check_picture_file,
    find_pictures,
    image_id_of_file,
    open_picture,
    to_rgb,
    upright_size,
)


@pytest.mark.parametrize(
    ("name", "auto", "stem", "path"),
    [
        ("a/285.jpg", "285", "285", "a/285.jpg"),
        ("COCO_val2014_000000000042.jpg", "42", "COCO_val2014_000000000042", "COCO_val2014_000000000042.jpg"),
        ("000000000042.jpg", "42", "000000000042", "000000000042.jpg"),
        ("a.b.jpg", "a.b", "a.b", "a.b.jpg"),
    ],
)
def test_rules_give_image_ids(name, auto, stem, path):
    assert [image_id_of_file(name, rule) for rule in ("auto", "stem", "path")] == [auto, stem, path]


def test_the_first_of_several_pictures_is_taken_and_others_are_ignored(tmp_path):
    for name in ("b/7.png", "a/7.jpg", "a/7.txt", "8.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_pictures(tmp_path, ["7", "http://example.org/8.jpg", "9"])
    assert found == {"7": tmp_path / "a/7.jpg", "http://example.org/8.jpg": tmp_path / "8.jpg"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_size_of_the_picture_as_it_is_seen(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert upright_size(image) == to_rgb(image).size


def many_scans(count):
    """A progressive JPEG of a few bytes whose last scan is repeated."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    assert open_picture(many_scans(1)).convert("RGB").size == (64, 64)
    with pytest.raises(ValueError, match="more than 100 scans"):
        open_picture(many_scans(5_000))


def test_what_is_no_file_or_a_huge_one_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match="a pipe"):
        check_picture_file(tmp_path / "pipe.jpg")
    with (tmp_path / "large.jpg").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="more than"):
        check_picture_file(tmp_path / "large.jpg")


def test_folders_that_link_to_themselves_are_walked_once(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "1.jpg").write_bytes(b"")
    assert find_pictures(tmp_path, ["1"]) == {"1": tmp_path / "1.jpg"}
