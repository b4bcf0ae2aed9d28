"""Which captions belong to which photos."""

import pytest
from PIL import Image

from matcher.pairs import OwnData, read_own_data
from parsers.command import InputError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("000000000285.jpg", "dog.png", "more/cat.jpg", "more/nobody.jpg", "more/dog.jpg"):
        Image.new("RGB", (32, 32)).save(folder / name)
    return folder


def write(path, text):
    path.write_text(text)
    return str(path)


def test_photos_and_captions_are_paired_by_the_rule_of_extraction(photos, tmp_path):
    lines = ["000000000285.jpg,a bear", "dog.png,a dog", "dog.png,a dog", "dog.png,it barks", "cat.jpg,a cat"]
    lines += ["holiday.jpg,the sea", "cat.jpg,", "one field"]
    found = read_own_data(photos, write(tmp_path / "captions.csv", "\n".join(["file,caption", *lines]) + "\n"), {})
    assert found.photos == {"285": "000000000285.jpg", "dog": "dog.png", "cat": "more/cat.jpg"}
    assert found.captions == {"285": ["a bear"], "dog": ["a dog", "it barks"], "cat": ["a cat"]}
    left_out = "\n".join(found.left_out)
    for line in (
        "more/nobody.jpg: a photo without a caption",
        "holiday: captions without a photo",
        "captions.csv, line 8: empty caption",
        "captions.csv, line 9: 1 field under 2 column names",
        "its image id dog is that of dog.png, too",
    ):
        assert line in left_out
    assert len(found.left_out) == 5


def test_ids_of_captions_may_be_the_names_of_files(photos, tmp_path):
    table = write(tmp_path / "a.tsv", "photo\tcaption\nCOCO_val2014_000000000285.jpg\ta bear\ndog\ta dog\n")
    found = read_own_data(photos, table, {"image_id": "photo"})
    assert found.captions == {"285": ["a bear"], "dog": ["a dog"]}


def test_captions_of_other_photos_are_refused_with_examples_of_both(photos, tmp_path):
    table = write(tmp_path / "captions.csv", "file,caption\nsea.jpg,the sea\n")
    with pytest.raises(InputError, match=r"no caption of .* captions are of sea, and photos are 285, dog, "):
        read_own_data(photos, table, {})


def test_a_file_in_place_of_the_folder_is_refused(photos, tmp_path):
    with pytest.raises(InputError, match="is no folder of photos"):
        read_own_data(photos / "dog.png", str(tmp_path), {})


def test_photos_without_regions_are_left_out_with_a_reason():
    data = OwnData({"a": "a.jpg", "b": "b.jpg"}, {"a": ["x"], "b": ["y", "z"]}, ["before"])
    kept = data.keep({"b"}, "no regions")
    assert (kept.photos, kept.captions) == ({"b": "b.jpg"}, {"b": ["y", "z"]})
    assert kept.left_out == ["before", "a.jpg: no regions"]
    assert kept.caption_count == 2
