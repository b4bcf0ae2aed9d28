"""Pictures to compare."""

import numpy as np
from PIL import Image


def draw(seed):
    """A picture of coarse shapes."""
    values = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(values).resize((320, 240), Image.Resampling.BICUBIC)
