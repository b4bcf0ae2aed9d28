"""Selects the proposals that become regions.

`select_butd` is the rule of the published bottom-up attention features, and so of ERNIE-ViL's, ViLBERT's and Oscar's;
`select_hf` is the rule of the Hugging Face port, which feeds LXMERT.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from torch import Tensor
from torchvision.ops import nms

from shards.boxes import intersection_over_union
from shards.schema import Array

CONFIDENCE, BUTD_NMS_THRESHOLD = np.float32(0.2), np.float32(0.3)
HF_NMS_THRESHOLDS = (0.5, 0.6, 0.7)


def select_butd(boxes: Array, probs: Array, min_boxes: int, max_boxes: int) -> Array:
    """Returns the rows of the proposals that some class keeps with confidence.

    If proposals overlap, every class keeps the one to which it gives the highest probability. The confidence of a
    proposal is the highest probability of the classes that keep it. The proposals with a confidence of at least 0.2 are
    taken, in their order. If there are fewer than ``min_boxes`` or more than ``max_boxes``, that many of the most
    confident ones are taken, the most confident first.

    Say the proposals 0 and 1 overlap, 2 lies apart, and the classes a and b have the probabilities [0.6, 0.1],
    [0.5, 0.3] and [0.1, 0.15]. Class a keeps 0 and 2, class b keeps 1 and 2. The confidences are 0.6, 0.3 and 0.15, so
    with ``min_boxes`` 1 the rows are [0, 1], and with ``min_boxes`` 3 they are [0, 1, 2].

    Args:
        boxes: float32 [n, 4] in pixels of the original image; the overlap counts whole pixels, as in Caffe.
        probs: float32 [n, classes] without the background.
        min_boxes: the fewest regions.
        max_boxes: the most regions.

    Returns:
        int64 [rows]; all n rows if n is less than ``min_boxes``.
    """
    rows: list[int] = []
    confident = 0
    for row, confidence in by_confidence(boxes, probs):
        if confidence < CONFIDENCE and len(rows) >= min_boxes:
            break
        rows.append(row)
        confident += int(confidence >= CONFIDENCE)
    if min_boxes <= confident <= max_boxes:
        rows.sort()
    return np.array(rows[:max_boxes], np.int64)


def by_confidence(boxes: Array, probs: Array) -> Iterator[tuple[int, np.float32]]:
    """Yields every row with its confidence, the most confident first; rows of equal confidence keep their order.

    This goes once through the probabilities of all classes, the largest first. The first class that keeps a row gives
    the row its confidence. A caller that needs only the first rows does not pay for all half a million probabilities.
    """
    overlapping = intersection_over_union(boxes, boxes, whole_pixels=True) >= BUTD_NMS_THRESHOLD
    suppressed = np.zeros(probs.shape, bool)
    unseen = dict.fromkeys(range(len(boxes)))
    for row, column in _largest_first(probs):
        if not unseen:
            return
        if suppressed[row, column]:
            continue
        suppressed[overlapping[row], column] = True
        if row in unseen:
            del unseen[row]
            yield row, probs[row, column]
    for row in unseen:
        yield row, np.float32(0)


def _largest_first(probs: Array) -> Iterator[tuple[int, int]]:
    """Yields row and column of every probability above 0, the largest first; they are sorted as far as needed."""
    for upper, lower in pairwise((np.inf, 0.2, 0.02, 0.002, 0.0)):
        rows, columns = np.nonzero((probs <= upper) & (probs > lower))
        order = np.argsort(-probs[rows, columns], kind="stable")
        yield from zip(rows[order].tolist(), columns[order].tolist(), strict=True)


def _overlap(boxes: Array) -> Array:
    """Returns float32 [n, n]: the intersection over union of boxes whose last pixel belongs to them."""
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    top_left = np.maximum(boxes[:, None, :2], boxes[:, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    both = np.maximum(bottom_right - top_left + 1, 0).prod(2)
    overlap: Array = both / (areas[:, None] + areas - both)
    return overlap


def select_hf(boxes: Tensor, probs: Tensor, min_boxes: int, max_boxes: int) -> Tensor:
    """Returns the rows of the ``max_boxes`` most likely boxes that do not overlap, the most likely first.

    Boxes overlap if their intersection over union is above 0.5, whatever their classes are. If that leaves fewer than
    ``min_boxes``, the threshold is 0.6, and then 0.7; if 0.7 leaves fewer, there are fewer.

    Args:
        boxes: float32 [n, 4], corrected for the most likely class of each box.
        probs: float32 [n], the probability of that class.
        min_boxes: the fewest regions, if possible.
        max_boxes: the most regions.

    Returns:
        int64 [rows].
    """
    for threshold in HF_NMS_THRESHOLDS:
        rows: Tensor = nms(boxes, probs, threshold)[:max_boxes]
        if len(rows) >= min_boxes:
            break
    return rows
