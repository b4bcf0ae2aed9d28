"""Which of the proposals become regions.

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
    """The rows of the proposals that some class keeps with confidence.

    Of proposals that overlap, every class keeps the one that is most likely of that class. A proposal's confidence is
    its largest probability of a class that keeps it. Those of at least 0.2 are taken, in the order of the proposals. If
    they are fewer than ``min_boxes`` or more than ``max_boxes``, that many of the most confident are taken, the most
    confident first.

    Args:
        boxes: float32 [n, 4] in pixels of the original image; the overlap counts whole pixels, as Caffe does.
        probs: float32 [n, classes] without the background.

    Returns:
        int64 [rows], all n if there are fewer than ``min_boxes``.
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
    """Every row with its confidence, the most confident first, equal ones in their order.

    One pass through the probabilities of all classes, the largest first: the first class to keep a row gives its
    confidence, so who wants the first rows only does not pay for the other half a million probabilities.
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
    """Row and column of every probability above 0, the largest first, equal ones in their order; sorted as needed."""
    for upper, lower in pairwise((np.inf, 0.2, 0.02, 0.002, 0.0)):
        rows, columns = np.nonzero((probs <= upper) & (probs > lower))
        order = np.argsort(-probs[rows, columns], kind="stable")
        yield from zip(rows[order].tolist(), columns[order].tolist(), strict=True)


def select_hf(boxes: Tensor, probs: Tensor, min_boxes: int, max_boxes: int) -> Tensor:
    """The rows of the ``max_boxes`` most likely boxes that do not overlap, whatever their classes, most likely first.

    Overlap 0.5 is too much or, where that leaves fewer than ``min_boxes``, 0.6 or 0.7; if 0.7 leaves fewer, so be it.

    Args:
        boxes: float32 [n, 4], of the most likely class of each.
        probs: float32 [n], of that class.

    Returns:
        int64 [rows].
    """
    for threshold in HF_NMS_THRESHOLDS:
        rows: Tensor = nms(boxes, probs, threshold)[:max_boxes]
        if len(rows) >= min_boxes:
            break
    return rows
