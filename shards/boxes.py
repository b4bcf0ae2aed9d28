"""Boxes as the model and the metrics see them: overlap, and location in the image."""

from __future__ import annotations

import numpy as np

from shards.schema import Array

WHOLE_IMAGE = np.array([[0, 0, 1, 1, 1]], np.float32)
"""float32 [1, 5]: the location of the whole image, see `locate_boxes`"""


def intersection_over_union(boxes: Array, others: Array, *, whole_pixels: bool = False) -> Array:
    """The overlap of each of some boxes with each of others, computed in the wider type of the two.

    Example: the boxes (0, 0, 4, 4) and (2, 0, 6, 4) share 8 of 24 square pixels, so their overlap is 1/3. With
    ``whole_pixels`` they are 5 pixels wide and high, and share 15 of 35.

    Args:
        boxes: float [n, 4], x1, y1, x2, y2 in pixels.
        others: float [m, 4].
        whole_pixels: x2 and y2 name the last pixel that belongs to the box, as in Caffe's Faster R-CNN, so its width is
            x2 - x1 + 1. Otherwise they name the edge of the box.

    Returns:
        float [n, m], between 0 and 1; 0 for two boxes without an area.
    """
    one, dtype = int(whole_pixels), np.result_type(boxes, others, np.float32)
    boxes, others = np.asarray(boxes, dtype), np.asarray(others, dtype)
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(bottom_right - top_left + one, 0, None).prod(-1)
    areas, other_areas = (np.clip(b[:, 2:] - b[:, :2] + one, 0, None).prod(-1) for b in (boxes, others))
    union = areas[:, None] + other_areas - shared
    overlap: Array = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def locate_boxes(boxes: Array, width: int, height: int) -> Array:
    """What the model is told of the place of an image and its regions.

    Args:
        boxes: float32 [n, 4], x1, y1, x2, y2 in pixels.
        width: width of the image in pixels.
        height: height of the image in pixels.

    Returns:
        float32 [n + 1, 5]: first `WHOLE_IMAGE`, then for each box x1/W, y1/H, x2/W, y2/H and its share of the image's
        area. In an image of 100 x 50 pixels, the box (10, 10, 60, 35) is at 0.1, 0.2, 0.6, 0.7 and has the share 0.25.
    """
    corners = boxes / np.array([width, height, width, height], np.float32)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return np.concatenate([WHOLE_IMAGE, np.concatenate([corners, area[:, None]], axis=1)])
