"""How close the detector must be to the port, and on what."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

FEATURES, LOGITS, PIXELS = 1e-4, 1e-3, 1e-2
"""How far from the port's numbers: its own move by less when it is run in float64."""
PROBABILITIES = 1e-4
CASES = {
    "image0_160_240": ("image0.png", 160, 240),
    "image1_160_240": ("image1.png", 160, 240),
    "image0_600_1000": ("image0.png", 600, 1000),
}
TRACED = [
    "image0_160_240",
    "image1_160_240",
    pytest.param("image0_600_1000", marks=pytest.mark.slow),
]


def changed(detector, **settings):
    """The detector with other settings; what is large is shared."""
    other = copy.copy(detector)
    other.settings = replace(detector.settings, **settings)
    return other


def rgb(path):
    return np.asarray(Image.open(path).convert("RGB"))


def close(found, expected, tolerance):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance)
