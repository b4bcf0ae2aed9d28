"""Regions in Parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.execution.parts import Reject
from pipeline.regions.formats import recognise_regions
from shards.regions.table import regions_table, write_regions
from tests.pipeline.regions.features import CLASSES, IMAGES, D, assert_row, read_all, write_npz


@pytest.mark.parametrize("form", ["lists", "flat", "bytes"])
def test_anyones_parquet_comes_through(tmp_path, form):
    def shape(matrix):
        return {"lists": matrix.tolist(), "flat": matrix.ravel().tolist(), "bytes": matrix.tobytes()}[form]

    rows = [
        {
            **{name: image[name] for name in ("image_id", "width", "height")},
            **{name: shape(image[key]) for name, key in zip(("boxes", "features", "cls_prob"), KEYS, strict=True)},
        }
        for image in IMAGES
    ]
    rows[4]["boxes"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    assert recognise_regions([tmp_path])[0] == recognise_regions([tmp_path / "a.parquet"])[0] == "parquet"
    info, found = read_all("parquet", tmp_path)
    assert (info.feature_size, info.classes.count) == (D, CLASSES)
    assert found[4] == Reject(str(tmp_path / "a.parquet"), "row 5", "no boxes")
    for row, image in zip(found[:4] + found[5:], IMAGES[:4] + IMAGES[5:], strict=True):
        assert_row(row, image)


KEYS = ("boxes", "features", "probs")


def test_our_own_table_is_read_as_it_is(tmp_path):
    folder = write_npz(tmp_path / "features", IMAGES)
    info, rows = read_all("vilbert-npz", folder, class_names=list("abcd"))
    with (tmp_path / "part-00000.parquet").open("wb") as stream:
        write_regions(stream, rows, info)
    again, found = read_all("parquet", tmp_path / "part-00000.parquet")
    assert again == info
    assert regions_table(found).equals(regions_table(rows))


def test_a_row_of_gigabytes_is_a_reject(tmp_path):
    image = {**IMAGES[0], "features": IMAGES[0]["features"].reshape(-1).tolist(), "boxes": IMAGES[0]["boxes"].tolist()}
    del image["probs"]
    rows = [image, {**image, "features": np.zeros((1 << 23) + 1, np.float32)}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    _, (first, second) = read_all("parquet", tmp_path / "a.parquet")
    assert first.image_id == IMAGES[0]["image_id"]
    assert second == Reject(str(tmp_path / "a.parquet"), "row 2", "a row of more than 33,554,432 bytes")
