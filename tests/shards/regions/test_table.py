"""The table of regions is read as it was written."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsers.command import InputError
from shards.manifest import Classes
from shards.regions.table import (
    RegionsInfo,
    RegionsRow,
    label_regions,
    read_image_ids,
    read_rows,
    regions_table,
    write_regions,
)
from shards.schema import Regions
from tests.shards.samples import FEATURES, SAMPLES

CLASSES = Classes(kind="top-k", count=3, background=0, names=["background", "cube", "ball"])
INFO = RegionsInfo(FEATURES, CLASSES, ("red", "blue"))


def make_rows():
    """Rows with and without classes and attributes, and one without boxes."""
    rows = []
    for number, sample in enumerate(SAMPLES):
        regions = (
            sample.regions if number % 2 else dataclasses.replace(sample.regions, class_ids=None, class_probs=None)
        )
        n = len(regions.boxes)
        attributes = (
            (np.full((n, 2), number, np.int16), np.full((n, 2), 0.5, np.float16)) if number % 3 else (None, None)
        )
        rows.append(RegionsRow(sample.image_id, 90 + number, 85, regions, *attributes))
    nothing = Regions(np.zeros((0, 4), np.float32), np.zeros((0, FEATURES), np.float16))
    return [*rows, RegionsRow("nothing", 5, 5, nothing)]


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = make_rows()
    with (tmp_path / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, INFO)
    assert RegionsInfo.from_file(tmp_path / "part-00000.parquet") == INFO
    assert read_image_ids(tmp_path / "part-00000.parquet").to_pylist() == [row.image_id for row in rows]
    found = list(read_rows(pq.read_table(tmp_path / "part-00000.parquet"), FEATURES))
    assert regions_table(found).equals(regions_table(rows))
    for row, other in zip(found, rows, strict=True):
        assert (row.image_id, row.width, row.height) == (other.image_id, other.width, other.height)
        np.testing.assert_array_equal(row.regions.boxes, other.regions.boxes, strict=True)
        assert (row.regions.class_ids is None) == (other.regions.class_ids is None)
        assert (row.attribute_ids is None) == (other.attribute_ids is None)


def test_a_row_whose_features_do_not_fit_is_an_error_among_the_others():
    rows = make_rows()[:3]
    table = regions_table(rows)
    features = table["features"].to_pylist()
    features[1] = features[1][:-2]
    column = table.schema.get_field_index("features")
    table = table.set_column(column, table.schema.field(column), pa.array(features, pa.binary()))
    found = list(read_rows(table, FEATURES))
    assert [isinstance(row, ValueError) for row in found] == [False, True, False]
    assert "feature values for" in str(found[1])


def test_columns_that_were_not_read_are_absent():
    table = regions_table(make_rows()).select(["image_id", "width", "height", "boxes", "features"])
    assert all(row.regions.class_ids is None and row.attribute_ids is None for row in read_rows(table, FEATURES))


def test_a_file_of_another_version_is_refused(tmp_path):
    pq.write_table(regions_table([]).replace_schema_metadata({"regions_version": "0"}), tmp_path / "a")
    with pytest.raises(InputError, match="regions_version is 0, this release reads 1"):
        RegionsInfo.from_file(tmp_path / "a")
    with pytest.raises(InputError, match="regions_version is 0"):
        read_image_ids(tmp_path / "a")


def test_labels_name_the_likeliest_class_that_is_not_the_background():
    boxes, features = np.zeros((3, 4), np.float32), np.zeros((3, 1), np.float16)
    ids = np.array([[1, 2], [0, 2], [9, 1]], np.int16)
    probabilities = np.array([[0.5, 0.25], [0.75, 0.25], [0.5, 0.25]], np.float16)
    regions = Regions(boxes, features, ids, probabilities)
    assert label_regions(regions, CLASSES) == [("cube", 0.5), ("ball", 0.25), ("9", 0.5)]
    attributes = np.array([[0], [1], [0]], np.int16)
    named = label_regions(regions, CLASSES, attributes, ("red", "blue"))
    assert [label for label, _ in named] == ["red cube", "blue ball", "red 9"]
    assert label_regions(Regions(boxes, features), CLASSES) == []
