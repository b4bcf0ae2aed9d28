"""Overlap of boxes."""

from __future__ import annotations

import numpy as np

from shards.schema import Array


def overlaps(boxes: Array, box: Array, *, plus_one: bool = False) -> Array:
    """Intersection over union of each box with one box.

    Args:
        boxes: [n, 4], xyxy in pixels.
        box: [4].
        plus_one: corners are pixels that belong to the box (Faster R-CNN's convention), not points.

    Returns:
        float64 [n], between 0 and 1; 0 for boxes without an area.
    """
    one = int(plus_one)
    boxes, box = np.asarray(boxes, np.float64), np.asarray(box, np.float64)
    corners = np.concatenate([np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])], axis=1)
    shared, areas, area = (
        np.prod(np.clip(c[..., 2:] - c[..., :2] + one, 0, None), axis=-1) for c in (corners, boxes, box)
    )
    union = areas + area - shared
    found: Array = np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)
    return found
