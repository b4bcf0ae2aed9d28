"""Region features that can be decoded, but to numbers that no detector wrote."""

import base64
import pickle

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from parsers.command import InputError
from pipeline.execution.parts import Reject
from pipeline.regions.__main__ import app
from shards.regions.table import RegionsInfo, read_rows
from shards.stage_folder import parts_of
from tests.pipeline.regions.features import code, make_image, read_all, tsv_line

WIDE = 256
"""enough features that their type can be told by their magnitudes"""


def wide_image(number):
    image = make_image(number, 4)
    features = np.abs(np.random.default_rng(number).standard_normal((4, WIDE))).astype(np.float32)
    return image | {"features": features}


def normalized(image):
    return image | {"boxes": image["boxes"] / np.float32([image["width"], image["height"]] * 2)}


def convert(tmp_path, source, *options):
    result = CliRunner().invoke(
        app, [str(source), "--out", str(tmp_path / "out"), "--workers", "1", *options], catch_exceptions=True
    )
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    (part,) = parts_of(tmp_path / "out")
    info = RegionsInfo.from_file(part)
    return info, list(read_rows(pq.read_table(part), info.feature_size))


def write_lines(tmp_path, images, dtype="<f4"):
    path = tmp_path / "features.tsv"
    path.write_text("".join(tsv_line(image, features=code(image["features"], dtype)) for image in images))
    return path


def test_boxes_that_were_divided_by_the_size_of_their_image_are_refused(tmp_path):
    path = write_lines(tmp_path, [normalized(wide_image(number)) for number in range(3)])
    with pytest.raises(InputError, match=r"first 3 images.* all boxes lie within 0\.\.1; boxes are in pixels"):
        convert(tmp_path, path)


def test_an_image_with_such_boxes_among_others_is_rejected(tmp_path):
    path = write_lines(tmp_path, [wide_image(0), normalized(wide_image(1)), wide_image(2)])
    _, rows = read_all("butd-tsv", path)
    assert [isinstance(row, Reject) and "within 0..1" in row.reason for row in rows] == [False, True, False]


def table_of(images, dtype):
    return pa.table(
        {
            "image_id": [image["image_id"] for image in images],
            "width": [image["width"] for image in images],
            "height": [image["height"] for image in images],
            "boxes": [image["boxes"].tobytes() for image in images],
            "features": [image["features"].astype(dtype).tobytes() for image in images],
        }
    )


@pytest.mark.parametrize("format", ["tsv", "parquet"])
@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_features_of_another_type_are_refused_until_their_number_is_given(tmp_path, format, dtype):
    images = [wide_image(number) for number in range(3)]
    path = tmp_path / f"features.{format}"
    if format == "tsv":
        write_lines(tmp_path, images, dtype)
    else:
        pq.write_table(table_of(images, dtype), path)
    with pytest.raises(InputError, match="none of the first 3 images can be used"):
        convert(tmp_path, path)
    info, rows = convert(tmp_path, path, "--feature-size", str(WIDE))
    assert info.feature_size == WIDE
    for row, image in zip(rows, images, strict=True):
        np.testing.assert_allclose(row.regions.features, image["features"], rtol=1e-3, atol=1e-6)


def bfloat16(array):
    """The bytes of the numbers as bfloat16, which NumPy does not know: the upper halves of float32."""
    return array.astype("<f4").view("<u2")[..., 1::2].tobytes()


@pytest.mark.parametrize("options", [(), ("--feature-size", str(WIDE))])
@pytest.mark.parametrize("format", ["tsv", "parquet"])
def test_bfloat16_is_refused_as_float32_and_as_float16(tmp_path, format, options):
    images = [wide_image(number) for number in range(3)]
    path = tmp_path / f"features.{format}"
    coded = [bfloat16(image["features"]) for image in images]
    if format == "tsv":
        texts = [base64.b64encode(data).decode() for data in coded]
        path.write_text("".join(tsv_line(image, features=text) for image, text in zip(images, texts, strict=True)))
    else:
        table = table_of(images, "<f4")
        pq.write_table(table.set_column(table.schema.get_field_index("features"), "features", pa.array(coded)), path)
    with pytest.raises(
        InputError, match=r"first 3 images can be used: features are no float\d+ numbers, but perhaps bfloat16"
    ):
        convert(tmp_path, path, *options)


def test_boxes_of_bfloat16_are_refused_and_those_of_float16_are_not(tmp_path):
    image = make_image(1, 12)
    path = tmp_path / "features.tsv"
    path.write_text(tsv_line(image, boxes=base64.b64encode(bfloat16(image["boxes"])).decode()))
    _, (row,) = read_all("butd-tsv", path)
    assert "boxes are no float16 numbers, but perhaps bfloat16 ones" in row.reason
    close = image | {"boxes": image["boxes"] * 0.1 + np.float32([40, 40, 60, 60])}
    for boxes in (image["boxes"], close["boxes"]):
        path.write_text(tsv_line(image, boxes=code(boxes, "<f2")))
        _, (row,) = read_all("butd-tsv", path)
        np.testing.assert_allclose(row.regions.boxes, boxes, rtol=1e-3)


def test_a_wrong_number_of_features_is_refused(tmp_path):
    path = write_lines(tmp_path, [wide_image(number) for number in range(3)], "<f2")
    for size in (WIDE // 2, WIDE // 4, WIDE - 1):
        with pytest.raises(InputError, match="none of the first 3 images can be used"):
            convert(tmp_path, path, "--feature-size", str(size))


@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_boxes_of_another_type_are_told_by_their_size(tmp_path, dtype):
    image = wide_image(1)
    path = tmp_path / "features.tsv"
    path.write_text(tsv_line(image, boxes=code(image["boxes"], dtype)))
    _, (row,) = read_all("butd-tsv", path)
    np.testing.assert_allclose(row.regions.boxes, image["boxes"], rtol=1e-3)


def test_features_of_real_detectors_are_not_refused(shared):
    for name in ("coco_regions_36.tsv", "butd_10.tsv"):
        _, rows = read_all("butd-tsv", shared / "data" / "regions" / name, 1000)
        assert rows
        assert not [row for row in rows if isinstance(row, Reject)]


def test_base64_of_a_pickled_record_may_be_float16_where_the_size_is_given(tmp_path):
    image = wide_image(1)
    record = {
        "image_id": image["image_id"],
        "image_w": image["width"],
        "image_h": image["height"],
        "num_boxes": 4,
        "boxes": base64.b64encode(image["boxes"].tobytes()),
        "features": base64.b64encode(image["features"].astype("<f2").tobytes()),
    }
    with lmdb.open(str(tmp_path / "features")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"1", pickle.dumps(record))
    with pytest.raises(InputError, match="perhaps float16"):
        convert(tmp_path, tmp_path / "features")
    _, (row,) = convert(tmp_path, tmp_path / "features", "--feature-size", str(WIDE))
    np.testing.assert_allclose(row.regions.features, image["features"], rtol=1e-3, atol=1e-6)
