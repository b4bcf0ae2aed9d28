"""Which files are the pictures of which images, and how they are seen."""

import pytest
from PIL import Image

from shards.pictures import find_pictures, image_id_of, to_rgb, upright_size


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
    assert [image_id_of(name, rule) for rule in ("auto", "stem", "path")] == [auto, stem, path]


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
