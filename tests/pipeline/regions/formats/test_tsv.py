"""Regions in tab-separated lines."""

import base64
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parsers.command import InputError
from pipeline.regions.formats import FORMATS, recognise_regions
from pipeline.regions.formats.tsv import REFERENCE, VQA
from shards.manifest import Classes
from shards.regions.table import RegionsInfo
from shards.regions.tsv import BOTTOM_UP_ATTENTION
from tests.pipeline.regions.features import (
    GOOD,
    IMAGES,
    D,
    assert_row,
    code,
    read_all,
    tsv_fields,
    tsv_line,
    tsv_reject,
)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_butd_tsv_comes_through(tmp_path, size):
    path = tmp_path / "features.tsv"
    path.write_text("".join(map(tsv_line, IMAGES)))
    assert recognise_regions([path])[0] == "butd-tsv"
    info, rows = read_all("butd-tsv", path, size)
    assert info == RegionsInfo(D, Classes(kind="argmax", count=None, background=None, names=None), None)
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)
        assert row.regions.class_ids.tolist() == [[i] for i in image["ids"]]
        np.testing.assert_array_equal(row.regions.class_probs[:, 0], image["conf"].astype(np.float16))
        assert row.attribute_ids.tolist() == [[i] for i in image["attr_ids"]]
        np.testing.assert_array_equal(row.attribute_probs[:, 0], image["attr_conf"].astype(np.float16))


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 40), st.booleans(), st.sampled_from("\n\r")
)
@example([0, 0, 0], 1, True, "\n")
@example([300, 0, 0, 0], 1, False, "\n")
@example([0, 300, 0, 300], 1, True, "\n")
def test_byte_ranges_give_every_line_once(tmp_path_factory, lengths, size, ends, end):
    lines = [f"{number}:{'x' * length}" for number, length in enumerate(lengths)]
    end = "\r\n" if end == "\r" else end
    data = end.join(lines) + (end if ends else "")
    path = tmp_path_factory.mktemp("t") / "lines.tsv"
    path.write_bytes(data.encode())
    reader = FORMATS["butd-tsv"]
    info = RegionsInfo(D, Classes(kind="none", count=None, background=None, names=None), None)
    ranges = list(reader.partitions([path], size))
    assert (ranges[0].start, ranges[-1].end) == (0, len(data))
    assert all(a.end == b.start for a, b in itertools.pairwise(ranges))
    rows = [row for partition in ranges for row in reader.read(partition, info)]
    starts = np.cumsum([0, *(len(line) + len(end) for line in lines[:-1])]).tolist()
    assert [row.position for row in rows] == [f"byte {start}" for start in starts]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": "****"}, "features is not valid base64"),
        ({"boxes": tsv_fields(GOOD)["boxes"][:-1]}, "boxes is not valid base64"),
        ({"boxes": base64.b64encode(b"12345").decode()}, "boxes is not a whole number of float32"),
        ({"num_boxes": "3"}, "wrong size"),
        ({"num_boxes": "-4"}, "num_boxes is negative"),
        ({"num_boxes": "four"}, "not a whole number"),
        ({"img_w": "1e2"}, "not a whole number"),
        ({"img_w": "640.5"}, "not a whole number"),
        ({"img_h": ""}, "not a whole number"),
        ({"objects_id": code([1, 2, 3], "<i8")}, "objects_id has the wrong size"),
        ({"objects_id": code([1, 2, 3, -1], "<i8")}, "id outside"),
        ({"objects_id": code([1, 2, 3, 1 << 15], "<i8")}, "id outside"),
        ({"attrs_id": code([1, 2, 3, -1], "<i8")}, "id outside"),
        ({"objects_conf": code([0.5, 0.5, 0.5, -0.5], "<f4")}, "negative"),
        ({"objects_conf": code([0.5, 0.5, 0.5, 1.5], "<f4")}, "more than 1.001"),
        ({"objects_conf": code([0.5, 0.5, 0.5, np.nan], "<f4")}, "not finite"),
        ({"features": "é"}, ""),
    ],
)
def test_a_bad_field_of_a_tsv_line_is_rejected(tmp_path, changes, reason):
    assert reason in tsv_reject(tmp_path, tsv_line(GOOD, **changes).encode())


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_a_bad_attribute_probability_is_rejected(tmp_path, value):
    tsv_reject(tmp_path, tsv_line(GOOD, attrs_conf=code([0.5, 0.5, 0.5, value], "<f4")).encode())


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_last_line_is_rejected(tmp_path, share):
    line = tsv_line(GOOD).encode()
    assert tsv_reject(tmp_path, line[: int(len(line) * share)])


def test_a_line_that_is_no_text_is_rejected(tmp_path):
    assert tsv_reject(tmp_path, b"\xff\t" * 9 + b"\n") == "invalid UTF-8"
    assert tsv_reject(tmp_path, b"\n").startswith("wrong number of columns")
    assert tsv_reject(tmp_path, b"a\tb\n").startswith("wrong number of columns")


def original_line(image):
    fields = tsv_fields(image)
    return "\t".join(fields[name] for name in BOTTOM_UP_ATTENTION) + "\n"


def test_the_original_six_columns_come_through(tmp_path):
    path = tmp_path / "features.tsv"
    path.write_text("".join(map(original_line, IMAGES)))
    assert recognise_regions([path])[0] == "butd-tsv"
    info, rows = read_all("butd-tsv", path)
    assert info.classes.kind == "none"
    for row, image in zip(rows, IMAGES, strict=True):
        assert_row(row, image)


def ernie_line(columns, image, **values):
    fields = dict.fromkeys(columns, "0") | tsv_fields(image) | values
    return "\t".join(fields[name] for name in columns) + "\n"


def test_ernie_vils_vqa_is_known_by_its_questions(tmp_path):
    path = tmp_path / "vqa.tsv"
    path.write_text("".join(ernie_line(VQA, im, question_id=f"q{n}", question="why?") for n, im in enumerate(IMAGES)))
    assert recognise_regions([path])[0] == "ernie-vil-tsv"
    _, rows = read_all("ernie-vil-tsv", path)
    for n, (row, image) in enumerate(zip(rows, IMAGES, strict=True)):
        assert_row(row, image | {"image_id": f"q{n}"})


def test_ernie_vils_refcoco_is_known_by_its_place_and_keeps_the_gold_boxes(tmp_path):
    path = tmp_path / "refcoco.tsv"
    lines = [
        ernie_line(REFERENCE, im, expression="a dog", num_boxes=str(len(im["boxes"]) - 1), num_gold="1")
        for im in IMAGES[1:4]
    ]
    path.write_text("".join(lines))
    assert recognise_regions([path])[0] == "ernie-vil-tsv"
    _, rows = read_all("ernie-vil-tsv", path)
    starts = np.cumsum([0, *(len(line.encode()) for line in lines)])
    for row, image, start in zip(rows, IMAGES[1:4], starts, strict=False):
        assert_row(row, image | {"image_id": f"refcoco.tsv@{start}"})


def test_a_compressed_file_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match="gunzip"):
        FORMATS["ernie-vil-tsv"].files([tmp_path / "refcoco.tsv.gz"])
