"""Overlap and location of boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.boxes import WHOLE_IMAGE, intersection_over_union, locate_boxes

BOX = st.tuples(*[st.integers(0, 9)] * 4).map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[::2]), max(b[1::2])))


def cells(box, whole_pixels):
    x1, y1, x2, y2 = box
    return {(x, y) for x in range(x1, x2 + whole_pixels) for y in range(y1, y2 + whole_pixels)}


@given(st.lists(BOX, max_size=4), BOX, st.booleans())
def test_overlap_counts_cells(boxes, box, whole_pixels):
    """A corner is a point between cells, or with whole pixels a cell of the box."""
    own = cells(box, whole_pixels)
    expected = [
        len(own & other) / len(own | other) if own | other else 0.0
        for other in (cells(other, whole_pixels) for other in boxes)
    ]
    found = intersection_over_union(np.array(boxes).reshape(-1, 4), np.array([box]), whole_pixels=whole_pixels)[:, 0]
    np.testing.assert_allclose(found, expected)


def test_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]], np.float32)
    assert np.allclose(intersection_over_union(boxes, boxes[:2]), [[1, 1 / 3], [1 / 3, 1], [0, 0]])
    assert intersection_over_union(boxes, boxes[:0]).shape == (3, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overlap_is_computed_in_the_wider_type(dtype):
    boxes = np.array([[0, 0, 3, 3]], np.float32)
    found = intersection_over_union(boxes, np.array([[0, 0, 1, 1]], dtype))
    assert found.dtype == dtype
    assert found.item() == dtype(1) / dtype(9)


def test_places_are_shares_of_the_image_after_the_whole_image():
    found = locate_boxes(np.array([[10, 10, 60, 35], [0, 0, 100, 50]], np.float32), 100, 50)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [WHOLE_IMAGE[0], [0.1, 0.2, 0.6, 0.7, 0.25], WHOLE_IMAGE[0]])
    np.testing.assert_array_equal(locate_boxes(np.zeros((0, 4), np.float32), 100, 50), WHOLE_IMAGE)
