"""The anchors, the coding of boxes, and the choice of proposals.

Widths are ``x2 - x1``, without Caffe's extra pixel. Boxes are float32 [n, 4]: x1, y1, x2, y2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import nms

STRIDE = 16
"""how many pixels of the resized image a cell of the feature map covers"""
SIZES, RATIOS = (64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
"""the anchors: the square root of the area in pixels, and the height divided by the width"""
ANCHORS = len(SIZES) * len(RATIOS)
ROI_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""The heads' corrections are divided by these numbers. Those of the proposals are used as they are."""
BEFORE_NMS, AFTER_NMS, NMS_THRESHOLD = 6000, 300, 0.7
_MAX_LOG_SCALE = math.log(1000 / 16)


def cell_anchors() -> Tensor:
    """Returns the anchors around the origin, float32 [12, 4]; the three ratios of the smallest size come first."""
    sides = [(math.sqrt(size**2 / ratio), ratio * math.sqrt(size**2 / ratio)) for size in SIZES for ratio in RATIOS]
    return torch.tensor([(-width / 2, -height / 2, width / 2, height / 2) for width, height in sides])


def grid_anchors(cell: Tensor, height: int, width: int) -> Tensor:
    """Returns the anchors of every cell of a map, row by row, float32 [height * width * 12, 4].

    The anchors of a cell lie around its top left corner.
    """
    y = torch.arange(height, device=cell.device, dtype=cell.dtype) * STRIDE
    x = torch.arange(width, device=cell.device, dtype=cell.dtype) * STRIDE
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1)
    return (corners[:, :, None] + cell).reshape(-1, 4)


def apply_deltas(
    boxes: Tensor, deltas: Tensor, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Returns the boxes, float32 [n, 4], moved and scaled by deltas, float32 [n, 4]: dx, dy, log width, log height."""
    dx, dy, dw, dh = (deltas / deltas.new_tensor(weights)).unbind(1)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + 0.5 * width + dx * width, boxes[:, 1] + 0.5 * height + dy * height
    half_width = 0.5 * width * dw.clamp(max=_MAX_LOG_SCALE).exp()
    half_height = 0.5 * height * dh.clamp(max=_MAX_LOG_SCALE).exp()
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the boxes cut to an image of ``size`` (height, width)."""
    height, width = size
    return torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).reshape(-1, 4)


def not_empty(boxes: Tensor) -> Tensor:
    """Returns which boxes have an area, bool [n]."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)


def propose(logits: Tensor, deltas: Tensor, cell: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns at most 300 boxes of an image that may hold an object, the most likely first, and their logits.

    Args:
        logits: float32 [12, H, W], one for each anchor of each cell.
        deltas: float32 [48, H, W]; the four numbers of an anchor stand together.
        cell: float32 [12, 4], see `cell_anchors`.
        size: the height and width of the image.
    """
    anchors = grid_anchors(cell, *logits.shape[1:])
    logits = logits.permute(1, 2, 0).reshape(-1)
    deltas = deltas.view(len(cell), 4, *deltas.shape[1:]).permute(2, 3, 0, 1).reshape(-1, 4)
    logits, best = logits.sort(descending=True, stable=True)
    logits, best = logits[:BEFORE_NMS], best[:BEFORE_NMS]
    boxes = clip(apply_deltas(anchors[best], deltas[best]), size)
    found = not_empty(boxes)  # only now, because empty boxes count among the 6,000
    boxes, logits = boxes[found], logits[found]
    keep = nms(boxes, logits, NMS_THRESHOLD)[:AFTER_NMS]
    return boxes[keep], logits[keep]
