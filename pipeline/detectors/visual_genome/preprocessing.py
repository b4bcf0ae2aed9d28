"""Turns a picture into the input of the network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from shards.schema import Array

MEAN_BGR = (102.9801, 115.9465, 122.7717)
MIN_SIDE = 3
"""the shortest side of a resized image; the stem leaves nothing of fewer pixels"""


def resized_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Returns the height and width to which an image is resized.

    The shorter side becomes ``min_size``, unless the longer one would exceed ``max_size``: then that one becomes
    ``max_size``. For example, 300 x 900 becomes 333 x 1000 with ``min_size`` 600 and ``max_size`` 1000.
    """
    scale = min_size / min(height, width)
    new_height, new_width = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(new_height, new_width) > max_size:
        shrink = max_size / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(int(new_height + 0.5), MIN_SIDE), max(int(new_width + 0.5), MIN_SIDE)


def network_input(image: Array, size: tuple[int, int], device: torch.device) -> Tensor:
    """Returns an RGB image, uint8 [H, W, 3], as float32 [3, *size] in BGR, from which the mean is subtracted.

    It is resized bilinearly without antialiasing.
    """
    rgb = torch.tensor(image, device=device).permute(2, 0, 1).float().contiguous()
    resized = F.interpolate(rgb[None], size, mode="bilinear", align_corners=False)[0]
    return resized.flip(0) - resized.new_tensor(MEAN_BGR)[:, None, None]
