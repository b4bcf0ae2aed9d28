"""Lines of released files, read in place."""

import base64

import numpy as np
import pytest

from finetune.released.tsv import LineRegions, is_released, parse_lines
from parsers.command import InputError
from shards.regions.tsv import REFERENCE, VQA

BOXES, FEATURES = np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.float32), np.arange(6, dtype=np.float32)


def line(question="what ?", boxes=BOXES, features=FEATURES):
    arrays = [base64.b64encode(array.tobytes()).decode() for array in (boxes, features)]
    return "\t".join(["7", question, "0", "1.0", "50", "60", str(len(boxes)), *arrays]) + "\n"


@pytest.mark.parametrize(
    ("split", "released"), [("val.tsv", True), ("val.tsv.gz", True), ("val", False), ("tsv", False)]
)
def test_a_released_split_is_known_by_its_name(split, released):
    assert is_released(split) == released


def test_a_line_is_named_by_the_byte_where_it_begins(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("ä\tone\u2028\nb\ttwo\n")
    found = parse_lines(path, ("id", "text"), lambda name, fields: (name, fields["id"], fields["text"]))
    assert found == [("x.tsv@0", "ä", "one\u2028"), ("x.tsv@10", "b", "two")]


def test_what_cannot_be_read_is_refused_with_its_place(tmp_path):
    def read(name, content=None, parse=lambda name, fields: name):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        return parse_lines(tmp_path / name, ("id", "text"), parse)

    with pytest.raises(InputError, match=r"none\.tsv: cannot be read"):
        read("none.tsv")
    with pytest.raises(InputError, match="is compressed"):
        read("x.tsv.gz", b"")
    with pytest.raises(InputError, match="line at byte 4: wrong number of columns: 1, expected 2"):
        read("x.tsv", b"a\tb\nc\n")
    with pytest.raises(InputError, match="line at byte 0: invalid UTF-8"):
        read("x.tsv", b"\xff\tb\n")
    with pytest.raises(InputError, match=r"line at byte 4: .*'x'"):
        read("x.tsv", b"1\tb\nx\tb\n", lambda _, fields: int(fields["id"]))


def test_regions_are_read_by_the_name_of_their_line(tmp_path):
    path = tmp_path / "vqa.tsv"
    path.write_text(line() + line(features=FEATURES + 1))
    regions = LineRegions(path, VQA)
    assert regions.feature_size == 3
    second = f"vqa.tsv@{len(line().encode())}"
    assert second in regions
    assert "other.tsv@0" not in regions
    row = regions[second]
    assert (row.image_id, row.width, row.height) == (second, 50, 60)
    np.testing.assert_array_equal(row.regions.boxes, BOXES)
    np.testing.assert_array_equal(row.regions.features, (FEATURES + 1).reshape(2, 3))


def test_ground_truth_boxes_count_as_well(shared):
    regions = LineRegions(shared / "parity/readers/refcoco_plus.tsv", REFERENCE)
    names = parse_lines(shared / "parity/readers/refcoco_plus.tsv", REFERENCE, lambda name, fields: (name, fields))
    for name, fields in names:
        assert len(regions[name].regions.boxes) == int(fields["num_boxes"]) + int(fields["num_gold"])


def test_damaged_regions_are_refused_with_their_place(tmp_path):
    path = tmp_path / "vqa.tsv"
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        LineRegions(path, VQA)
    path.write_text(line() + line(boxes=BOXES * 2))
    regions = LineRegions(path, VQA)
    with pytest.raises(InputError, match=f"line at byte {len(line())}: a box outside the 50 x 60 image"):
        regions[f"vqa.tsv@{len(line())}"]
    path.write_text("a\tb\n")
    with pytest.raises(InputError, match="line at byte 0: wrong number of columns"):
        LineRegions(path, VQA)
