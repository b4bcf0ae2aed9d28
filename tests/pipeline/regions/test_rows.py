"""The checks that all formats share."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.execution.parts import Reject
from pipeline.regions.rows import most_likely
from tests.pipeline.regions.features import (
    GOOD,
    IMAGE_REJECTS,
    npz_arrays,
    npz_bytes,
    npz_reject,
    read_all,
    tsv_line,
    tsv_reject,
)


@pytest.mark.parametrize(("image", "reason"), IMAGE_REJECTS)
def test_unsound_images_are_rejected_by_both_formats(tmp_path, image, reason):
    assert reason in tsv_reject(tmp_path, tsv_line(image).encode())
    folder = tmp_path / "npz"
    folder.mkdir()
    assert reason in npz_reject(folder, npz_bytes(npz_arrays(image)))


@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1e-9, 6e-8, 0.1, 0.1000001, 0.5, 1.0]), min_size=5, max_size=5)))
def test_the_most_likely_classes_come_first_and_of_equal_ones_the_first(rows):
    probabilities = np.array(rows, np.float32).reshape(-1, 5)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    for k in (None, 2):
        ids, values = most_likely(probabilities, k)
        np.testing.assert_array_equal(ids, order[:, :k].astype(np.int16), strict=True)
        expected = np.take_along_axis(probabilities, order, 1)[:, :k].astype(np.float16)
        np.testing.assert_array_equal(values, expected, strict=True)


def table_with(image_id, **changes):
    columns = {"image_id": image_id, "width": 100, "height": 90, "boxes": GOOD["boxes"].tolist()}
    columns |= {"features": GOOD["features"].tolist(), **changes}
    return pa.table({name: [value] for name, value in columns.items()})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (285, "285"),
        (285.0, "285"),
        (b"a b", "a b"),
        (["x"], "x"),
        (285.5, "image_id is 285.5, not a name"),
        (b"\xff", "image_id is not UTF-8"),
    ],
)
def test_image_ids_of_regions_are_read_as_those_of_captions(tmp_path, value, expected):
    pq.write_table(table_with(value), tmp_path / "regions.parquet")
    _, (row,) = read_all("parquet", tmp_path / "regions.parquet")
    assert (row.reason if isinstance(row, Reject) else row.image_id) == expected


@pytest.mark.parametrize("side", ["width", "height"])
def test_a_size_that_no_image_has_is_rejected(tmp_path, side):
    pq.write_table(table_with("1", **{side: 1 << 31}), tmp_path / "regions.parquet")
    _, (row,) = read_all("parquet", tmp_path / "regions.parquet")
    assert "is more than 2,147,483,647 pixels" in row.reason
    assert "is more than" in tsv_reject(tmp_path, tsv_line(GOOD | {side: 10**400}).encode())
