"""The checks that all formats share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.regions.rows import most_likely
from tests.pipeline.regions.features import IMAGE_REJECTS, npz_arrays, npz_bytes, npz_reject, tsv_line, tsv_reject


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
