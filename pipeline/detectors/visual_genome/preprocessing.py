"""From a picture to the network's input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from shards.schema import Array

MEAN_BGR = (102.9801, 115.9465, 122.7717)
MIN_SIDE = 3
"""The least side that a resized image may have: the stem makes nothing of fewer pixels."""


def resized_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width such that the shorter side is ``min_size`` or, if less, the longer one ``max_size``."""
    scale = min_size / min(height, width)
    new_height, new_width = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(new_height, new_width) > max_size:
        shrink = max_size / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(int(new_height + 0.5), MIN_SIDE), max(int(new_width + 0.5), MIN_SIDE)


def network_input(image: Array, size: tuple[int, int], device: torch.device) -> Tensor:
    """float32 [3, *size] of an image uint8 [H, W, 3]: bilinear without antialiasing, then BGR less the mean."""
    rgb = torch.tensor(image, device=device).permute(2, 0, 1).float().contiguous()
    resized = F.interpolate(rgb[None], size, mode="bilinear", align_corners=False)[0]
    return resized.flip(0) - resized.new_tensor(MEAN_BGR)[:, None, None]
