"""Lines of the TSV files that others publish."""

import base64

import numpy as np
import pytest

from shards.regions.tsv import BOTTOM_UP_ATTENTION, decode_numbers, decode_regions, parse_integer, split_line

BOXES = np.array([[0, 0, 4, 5], [1, 2, 3, 4]], np.float32)
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


def encode(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def test_a_line_gives_boxes_and_features():
    line = "\t".join(["285", "640", "480", "2", encode(BOXES), encode(FEATURES)]) + "\r\n"
    fields = split_line(line.encode(), BOTTOM_UP_ATTENTION)
    assert (fields["img_id"], fields["img_w"]) == ("285", "640")
    boxes, features = decode_regions(fields, 2, 3)
    np.testing.assert_array_equal(boxes, BOXES, strict=True)
    np.testing.assert_array_equal(features, FEATURES, strict=True)


@pytest.mark.parametrize(("line", "problem"), [(b"1\t2", "wrong number of columns: 2"), (b"\xff", "invalid UTF-8")])
def test_a_line_that_does_not_fit_its_columns_is_refused(line, problem):
    with pytest.raises(ValueError, match=problem):
        split_line(line, BOTTOM_UP_ATTENTION)


def test_ids_are_integers_of_eight_bytes():
    assert decode_numbers({"objects_id": encode(np.array([1, 1599]))}, "objects_id").tolist() == [1, 1599]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a$", "is not valid base64"),
        ("MTIzNDU=", "is not a whole number of float32 values"),
        (encode(BOXES), "wrong size"),
    ],
)
def test_a_damaged_field_is_refused(text, problem):
    with pytest.raises(ValueError, match=f"boxes .*{problem}"):
        decode_numbers({"boxes": text}, "boxes", 4)
    with pytest.raises(ValueError, match="negative"):
        decode_regions({"boxes": text}, -1, 3)


@pytest.mark.parametrize("value", ["12", "12.0", "12.", 12, 12.0, np.int64(12), np.array([12]), np.array(12.0)])
def test_an_integer_may_have_many_forms(value):
    assert parse_integer(value, "img_w") == 12


@pytest.mark.parametrize("value", ["", "1e2", "12.5", 12.5, np.inf, None, [12], {}, np.array([1, 2]), np.array(["12"])])
def test_what_is_no_integer_is_refused_with_its_name(value):
    with pytest.raises(ValueError, match="img_w is not a"):
        parse_integer(value, "img_w")
